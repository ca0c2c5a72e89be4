"""Calls participants through Django's test client, as the engine would through HTTP."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

from django.db import connections
from django.test import Client

CREDENTIAL = "a-credential-for-tests"
T = TypeVar("T")


@dataclass(frozen=True)
class Said:
    """An answer: its status, headers, and the JSON of its body."""

    status: int
    document: dict[str, Any]
    raw: bytes
    headers: dict[str, str]

    @property
    def data(self) -> dict[str, Any]:
        """The result of a success; fails the test for anything else."""
        assert self.document.get("status") == "success", (self.status, self.document)
        data: dict[str, Any] = self.document["data"]
        return data

    @property
    def code(self) -> tuple[int, str]:
        """Status and code of anything but a success; fails the test for one."""
        assert self.document.get("status") != "success", (self.status, self.document)
        return self.status, str(self.document["code"])


@dataclass
class Caller:
    """One caller with a valid credential, whose keys are all different."""

    client: Client = field(default_factory=lambda: Client(raise_request_exception=False))
    credential: str = CREDENTIAL

    def key(self) -> str:
        """A key that was not used before."""
        return f"{uuid4()}:step:action:0"

    def post(
        self, operation: str, body: object = None, *, key: str = "", undoes: str = "", **headers: str
    ) -> Said:
        """POST the operation; a string is sent as it stands."""
        data = body if isinstance(body, str) else json.dumps({} if body is None else body)
        return self.send("POST", f"/saga/{operation}", data, key=key, undoes=undoes, **headers)

    def get(self, path: str, *, key: str = "", **headers: str) -> Said:
        """GET `/saga/<path>`."""
        return self.send("GET", f"/saga/{path}", "", key=key, **headers)

    def status(self, key: str) -> dict[str, Any]:
        """What became of a key."""
        return self.get(f"operations/{key}").data

    def send(
        self, method: str, path: str, data: str = "", *, key: str = "", undoes: str = "", **headers: str
    ) -> Said:
        """One request; headers are named as in `X_Saga_Id`."""
        sent = {"Authorization": f"Bearer {self.credential}", "Idempotency-Key": key, "X-Compensates": undoes}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        response = self.client.generic(
            method, path, data, "application/json", headers={k: v for k, v in sent.items() if v}
        )
        raw = response.getvalue()
        document = json.loads(raw) if raw else {}
        return Said(response.status_code, document, raw, dict(response.headers))


def at_once(number: int, call: Callable[[int], T]) -> list[T]:
    """What `number` threads get that call at the same moment."""
    barrier = threading.Barrier(number)
    results: list[T] = []

    def run(index: int) -> None:
        barrier.wait(30)
        try:
            results.append(call(index))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == number
    return results
