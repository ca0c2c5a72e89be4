"""Several addresses of a participant, and credentials that rotate."""

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.exceptions import ImproperlyConfigured

from sagas import directory, remote
from sagas.conf import conf
from sagas.remote import Envelope
from sagas.state import Done, Transient


class Answering(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        content = b'{"status": "success", "data": {"shown": "%s"}}' % self.headers["Authorization"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""


@pytest.fixture
def alive() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def dead() -> Iterator[str]:
    """An address that refuses connections for as long as the test runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def call(monkeypatch: pytest.MonkeyPatch, target: dict[str, Any]) -> object:
    monkeypatch.setattr(remote, "conf", lambda: replace(conf(), participants={"shop": target}))
    now = datetime.now(UTC)
    request = {
        **{"participant": "shop", "method": "POST", "path": "/saga/x", "body": "{}"},
        "issued_at": now.isoformat(),
    }
    return remote.perform(request, Envelope(uuid4(), "x", str(uuid4()), "c", timedelta(seconds=5)), now)


def test_an_address_that_refuses_is_left_for_the_next(
    monkeypatch: pytest.MonkeyPatch, alive: str, dead: str
) -> None:
    target = {"url": f"{dead}, {alive}/", "credential": "s"}
    assert call(monkeypatch, target) == Done({"shown": "Bearer s"})
    assert directory.addresses(target) == [alive]
    assert isinstance(call(monkeypatch, {"url": [dead]}), Transient)
    assert directory.addresses({"url": dead}) == [dead], "the only one is tried all the same"


def test_a_credential_file_is_read_again_when_it_changes(
    monkeypatch: pytest.MonkeyPatch, alive: str, tmp_path: Path
) -> None:
    path = tmp_path / "credential"
    target = {"url": alive, "credential_file": str(path)}
    with pytest.raises(ImproperlyConfigured, match="cannot be read"):
        directory.credential(target)
    for number, secret in enumerate(("one", "two")):
        path.write_text(f"{secret}\nolder\n")
        os.utime(path, ns=(number, number))
        assert call(monkeypatch, target) == Done({"shown": f"Bearer {secret}"})
