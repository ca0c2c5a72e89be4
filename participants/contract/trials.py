"""What a conformance check asks of a participant: trials, and the caller that makes them by HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPConnection, HTTPSConnection
from typing import Any, Literal
from urllib.parse import quote, urlencode, urlsplit
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

PATIENCE = 30.0
PAUSE = 0.1


class Ask(BaseModel):
    """A request for an operation: its fields go into the body, or for GET into path and query."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    operation: str
    method: Literal["GET", "POST"] = "POST"
    argument: str = Field(default="", description="the field that is the last part of the path")
    fields: dict[str, Any] = Field(default_factory=dict)


class Trial(Ask):
    """An operation to check, with fields that succeed and fields that are refused.

    `undo` names its compensation. `needs` takes fields from the results of other trials, which are
    made first: `{"reservation_id": ("reserve-stock", "reservation_id")}`. `probe` is a query whose
    answer shows the effect. A trial without `undo` is made only if it is a `query`.
    """

    undo: str = ""
    query: bool = False
    key_optional: bool = False
    refused: dict[str, Any] | None = None
    needs: dict[str, tuple[str, str]] = Field(default_factory=dict)
    probe: Ask | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """An answer: its status, its bytes, and the JSON object in them (empty if there is none)."""

    status: int
    raw: bytes
    document: Mapping[str, Any]

    @property
    def done(self) -> bool:
        """Whether this is a success in the shape of the contract."""
        envelope = self.document.get("status") == "success" and isinstance(self.document.get("data"), dict)
        return envelope and self.status in (HTTPStatus.OK, HTTPStatus.CREATED)

    @property
    def refused(self) -> bool:
        """Whether this is a refusal in the shape of the contract."""
        texts = [self.document.get(name) for name in ("code", "reason")]
        envelope = self.document.get("status") == "failed" and all(
            isinstance(text, str) and text for text in texts
        )
        return envelope and self.status in (HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY)

    @property
    def data(self) -> Mapping[str, Any]:
        """The result of a success; empty for anything else."""
        return self.document["data"] if self.done else {}

    def __str__(self) -> str:
        return f"{self.status} {self.raw[:200].decode(errors='replace')}"


@dataclass(frozen=True, slots=True)
class Target:
    """A participant at a URL, and the credential that it accepts."""

    url: str
    credential: str

    def send(
        self,
        ask: Ask,
        *,
        key: str = "",
        undoes: str = "",
        raw: str | None = None,
        credential: str | None = None,
        issued_at: str = "",
    ) -> Said:
        """One request; `raw` replaces the body. Raises OSError or HTTPException without an answer."""
        headers = {
            "Authorization": f"Bearer {self.credential if credential is None else credential}",
            "Content-Type": "application/json",
            "Idempotency-Key": key,
            "X-Compensates": undoes,
            "X-Key-Issued-At": issued_at or datetime.now(UTC).isoformat(),
        }
        body = (json.dumps(ask.fields) if raw is None else raw) if ask.method == "POST" else None
        return self._exchange(ask.method, path_of(ask), body, {n: v for n, v in headers.items() if v})

    def settled(self, ask: Ask, *, key: str, undoes: str = "") -> Said:
        """The same, repeated while the participant says that the key is in progress."""
        end = time.monotonic() + PATIENCE
        while True:
            said = self.send(ask, key=key, undoes=undoes)
            if said.status != HTTPStatus.TOO_EARLY or time.monotonic() > end:
                return said
            time.sleep(PAUSE)

    def status(self, key: str) -> Said:
        """What became of a key."""
        return self.send(Ask(operation=f"operations/{quote(key, safe='')}", method="GET"))

    def _exchange(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> Said:
        parts = urlsplit(self.url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.netloc, timeout=PATIENCE)
        try:
            connection.request(method, parts.path.rstrip("/") + path, body, dict(headers))
            response = connection.getresponse()
            raw = response.read()
        finally:
            connection.close()
        return Said(response.status, raw, parsed(raw))


def path_of(ask: Ask) -> str:
    """The path of a request, with the query of a GET."""
    given = dict(ask.fields)
    path = f"/saga/{ask.operation}"
    if ask.argument:
        path += f"/{quote(str(given.pop(ask.argument)), safe='')}"
    return f"{path}?{urlencode(given)}" if ask.method == "GET" and given else path


def parsed(raw: bytes) -> Mapping[str, Any]:
    """The JSON object in an answer; empty if there is none."""
    try:
        document = json.loads(raw)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def fresh() -> str:
    """A key that nobody has used."""
    return f"{uuid4()}:conformance:action:0"


@dataclass(slots=True)
class Session:
    """The calls of one check, which are undone when it is over."""

    target: Target
    trials: Sequence[Trial]
    made: list[tuple[Trial, str]] = field(default_factory=list)

    def ready(self, trial: Trial) -> Trial:
        """The trial with the fields it needs from others, which are made first.

        Raises:
            LookupError: one of them could not be made.
        """
        found: dict[str, Any] = {}
        results: dict[str, Mapping[str, Any]] = {}
        for name, (operation, result) in trial.needs.items():
            if operation not in results:
                other = self.ready(next(t for t in self.trials if t.operation == operation))
                said = self.act(other, fresh())
                if not said.done:
                    raise LookupError(f"needs {operation}, which answered {said}")
                results[operation] = said.data
            found[name] = results[operation].get(result)
        return trial.model_copy(update={"fields": trial.fields | found})

    def act(self, trial: Trial, key: str) -> Said:
        """Make a trial that is ready, under a key."""
        if trial.undo:
            self.made.append((trial, key))
        return self.target.settled(trial, key=key)

    def undo(self, trial: Trial, action: str, key: str) -> Said:
        """Undo the action under that key, by the key alone."""
        return self.target.settled(Ask(operation=trial.undo), key=key, undoes=action)

    def probe(self, trial: Trial) -> Mapping[str, Any]:
        """What the trial's query tells now; empty if it has none."""
        return self.target.send(trial.probe).data if trial.probe is not None else {}

    def tidy(self) -> list[str]:
        """Undo whatever was made, last first; tells what could not be."""
        left = []
        while self.made:
            trial, key = self.made.pop()
            said = self.undo(trial, key, fresh())
            if not said.done:
                left.append(f"{trial.operation} could not be undone afterwards: {said}")
        return left
