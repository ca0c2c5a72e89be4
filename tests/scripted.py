"""A participant in a thread, over real HTTP, that keeps the contract and does what a test tells it."""

import json
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    operation: str
    key: str
    undoes: str
    body: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Says:
    """What to do with the next request of an operation."""

    status: int = 200
    data: dict[str, Any] = field(default_factory=dict)
    code: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    processes: bool = True
    resets: bool = False
    raw: bytes | None = None


BUSY = Says(503, headers={"Retry-After": "1"}, processes=False)
LOST_REQUEST = Says(processes=False, resets=True)
LOST_ANSWER = Says(resets=True)
FORBIDDEN = Says(401, processes=False)


def refuses(code: str = "refused") -> Says:
    """A refusal, which is kept under its key."""
    return Says(409, code=code)


@dataclass
class Scripted:
    """The participant: what it has received, what it keeps under each key, what it shall do next."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    kept: dict[str, Says] = field(default_factory=dict)
    next: dict[str, list[Says]] = field(default_factory=lambda: defaultdict(list))
    held: threading.Event | None = None
    arrived: threading.Event = field(default_factory=threading.Event)
    knows_nothing: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def will(self, operation: str, *says: Says) -> None:
        """Do this with the next requests of an operation."""
        self.next[operation].extend(says)

    def hold(self) -> threading.Event:
        """Keep every request waiting until the event that is returned is set."""
        self.held = threading.Event()
        return self.held

    def operations(self) -> list[str]:
        """The operations asked for, in order of arrival."""
        return [request.operation for request in self.received]

    def keys(self, operation: str) -> list[str]:
        """The keys under which an operation was asked for."""
        return [request.key for request in self.received if request.operation == operation]

    def standing(self) -> set[str]:
        """The operations whose effect stands: processed and not undone."""
        undone = {r.undoes for r in self.received if r.key in self.kept and not self.kept[r.key].code}
        stands = {k for k, says in self.kept.items() if not says.code and ":action:" in k and k not in undone}
        return {request.operation for request in self.received if request.key in stands}

    def answer(self, request: Received) -> Says:
        """Process one request as the contract says."""
        with self.lock:
            self.received.append(request)
            queue = self.next[request.operation]
            says = queue.pop(0) if queue else Says()
            says = replace(says, data=says.data or {"id": request.operation})
            if request.key in self.kept:
                return self.kept[request.key] if not says.resets else says
            if says.processes:
                self.kept[request.key] = says if not says.resets else Says(data=says.data)
                if request.undoes and request.undoes not in self.kept:
                    self.kept[request.undoes] = refuses("compensated_before")
            return says

    def tell(self, key: str) -> Says:
        """The status query."""
        known = None if self.knows_nothing else self.kept.get(key)
        if known is None:
            return Says(data={"state": "unknown"})
        if known.code:
            return Says(data={"state": "failed", "code": known.code, "reason": known.code})
        return Says(data={"state": "completed", "result": known.data})


def handler_of(scripted: Scripted) -> type[BaseHTTPRequestHandler]:
    """The HTTP side of a scripted participant."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self.respond()

        def do_POST(self) -> None:
            self.respond()

        def respond(self) -> None:
            path = urlsplit(self.path).path.removeprefix("/saga/")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            if path.startswith("operations/"):
                self.send(scripted.tell(unquote(path.removeprefix("operations/"))))
                return
            scripted.arrived.set()
            if scripted.held is not None:
                scripted.held.wait(30)
            key, undoes = self.headers.get("Idempotency-Key", ""), self.headers.get("X-Compensates", "")
            self.send(
                scripted.answer(Received(path.split("/")[0], key, undoes, body, dict(self.headers.items())))
            )

        def send(self, says: Says) -> None:
            if says.resets:
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
                with suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                return
            envelope: dict[str, Any] = {"status": "success", "data": says.data}
            if says.code:
                envelope = {"status": "failed", "code": says.code, "reason": says.code}
            content = json.dumps(envelope).encode() if says.raw is None else says.raw
            head = [f"HTTP/1.1 {says.status} {HTTPStatus(says.status).phrase}"]
            head += [f"{name}: {value}" for name, value in says.headers.items()]
            head += ["Content-Type: application/json", f"Content-Length: {len(content)}", "", ""]
            with suppress(OSError):
                self.wfile.write("\r\n".join(head).encode() + content)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    return Handler


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


@contextmanager
def scripted_participant() -> Iterator[Scripted]:
    """A participant that answers at `url` while the context lasts."""
    scripted = Scripted()
    with Server(("127.0.0.1", 0), handler_of(scripted)) as server:
        scripted.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield scripted
        finally:
            if scripted.held is not None:
                scripted.held.set()
            server.shutdown()
            thread.join(10)
