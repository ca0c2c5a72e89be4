"""What a frontend and an operator do, over HTTP; and what a saboteur does to the participants."""

import json
from dataclasses import dataclass, field
from typing import Any

import urllib3

from stack.waiting import wait_until

PATIENCE = 15.0
Document = dict[str, Any]

POOL = 32


@dataclass(frozen=True)
class Answer:
    """One answer of the API."""

    status: int
    document: Document
    headers: urllib3.HTTPHeaderDict

    @property
    def saga(self) -> Document:
        """The saga that was asked for; fails the test for any other answer."""
        assert self.status in (200, 202), (self.status, self.document)
        return self.document


@dataclass(frozen=True)
class Client:
    """One caller of the API, by token; `fault` goes to the participants, by credential."""

    api: str
    participants: str
    token: str
    credential: str
    http: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(retries=False, maxsize=8))

    def start(
        self, saga_type: str, data: Document, *, key: str = "", wait: int = 0, **more: object
    ) -> Answer:
        """Start a saga; `wait` seconds for its end."""
        body = {"type": saga_type, "data": data, **more}
        return self._send("POST", "/api/v1/sagas", body, key, wait)

    def saga(self, saga_id: str) -> Document:
        """One saga as it stands."""
        # A connection that was terminated in the API's pool answers 503 once each, and asks to try again.
        for _ in range(POOL):
            answer = self._send("GET", f"/api/v1/sagas/{saga_id}")
            if answer.status != 503:
                break
        return answer.saga

    def intervene(
        self,
        saga_id: str,
        verb: str,
        *,
        key: str = "",
        wait: int = 0,
        reason: str = "for the test",
        **more: object,
    ) -> Answer:
        """What an operator does to a saga: execute, retry, compensate, and what else that verb is told."""
        return self._send("POST", f"/api/v1/sagas/{saga_id}/{verb}", {"reason": reason, **more}, key, wait)

    def fault(self, operation: str, kind: str, participant: str = "", **options: object) -> None:
        """Have the participant of that operation, or the one that is named, misbehave from now on."""
        at = f"/{participant}" if participant else ""
        self._sabotage("POST", {"operation": operation, "kind": kind, **options}, at)

    def end_faults(self) -> None:
        """Have all participants behave again."""
        self._sabotage("DELETE", {})

    def _sabotage(self, method: str, body: Document, at: str = "") -> None:
        url, headers = f"{self.participants}{at}/faults", {"Authorization": f"Bearer {self.credential}"}

        def done() -> bool:  # each thread that had lost its database connection fails once
            content = json.dumps(body)
            answer = self.http.request(method, url, body=content, headers=headers, timeout=PATIENCE)
            assert answer.status in (200, 201, 500), answer.data
            return answer.status != 500

        assert wait_until(done, PATIENCE)

    def _send(self, method: str, path: str, body: object = None, key: str = "", wait: int = 0) -> Answer:
        headers = {"Authorization": f"Token {self.token}", "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        if wait:
            headers["Prefer"] = f"wait={wait}"
        content = None if body is None else json.dumps(body)
        answer = self.http.request(
            method, self.api + path, body=content, headers=headers, timeout=wait + PATIENCE
        )
        return Answer(answer.status, json.loads(answer.data or b"{}"), answer.headers)
