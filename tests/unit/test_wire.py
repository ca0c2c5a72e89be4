"""What happens on the wire: connections kept and found dead, cut, dripping, late and missing answers."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from sagas import wire
from tests.tls import Authority, Shop
from tests.tls import serving as serving_tls

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


class Peer:
    """A server that plays a script: one function per connection, told the connection."""

    def __init__(self, *script: Callable[[socket.socket], None]) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.requests: list[bytes] = []
        self.connections = 0
        self.over = threading.Event()
        self.closed = threading.Semaphore(0)
        threading.Thread(target=self._run, args=(script,), daemon=True).start()

    def _run(self, script: tuple[Callable[[socket.socket], None], ...]) -> None:
        for play in script:
            with suppress(OSError):
                connection, _ = self.listener.accept()
                self.connections += 1
                with closing(connection):
                    play(connection)
                self.closed.release()

    def read(self, connection: socket.socket) -> bytes:
        """One request with a body of the length it says; empty if the client has gone."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65536)
            if not piece:
                return b""
            data += piece
        self.requests.append(data)
        return data


@pytest.fixture
def peers() -> Iterator[list[Peer]]:
    """Peers that are told when the test is over."""
    started: list[Peer] = []
    yield started
    for peer in started:
        peer.over.set()
        peer.listener.close()


def serving(peers: list[Peer], *answers: bytes | None) -> Peer:
    """A peer that gives `answers` on one connection after the other; None ends a connection."""
    scripts: list[list[bytes]] = [[]]
    for answer in answers:
        scripts.append([]) if answer is None else scripts[-1].append(answer)

    def play(script: list[bytes]) -> Callable[[socket.socket], None]:
        def on(connection: socket.socket) -> None:
            for answer in script:
                if peer.read(connection):
                    connection.sendall(answer)

        return on

    peer = Peer(*(play(script) for script in scripts))
    peers.append(peer)
    return peer


def post(peer: Peer, seconds: float = 5.0) -> wire.Answer:
    """One small call."""
    return wire.exchange("POST", peer.url, "/saga/one", b'{"a":1}', {"X-Key": "k"}, seconds)


def test_a_connection_is_used_again(peers: list[Peer]) -> None:
    peer = serving(peers, OK, OK, OK)
    assert [post(peer).status for _ in range(3)] == [200, 200, 200]
    assert peer.connections == 1
    assert peer.requests[0].startswith(b"POST /saga/one HTTP/1.1\r\n")
    assert b"X-Key: k\r\n" in peer.requests[0]


def test_head_and_body_go_in_one_piece(peers: list[Peer]) -> None:
    peer = serving(peers, OK)
    post(peer)
    assert peer.requests[0].endswith(b'\r\n\r\n{"a":1}')


def test_a_connection_that_was_closed_meanwhile_is_not_used(peers: list[Peer]) -> None:
    peer = serving(peers, OK, None, OK)
    assert post(peer).status == 200
    assert peer.closed.acquire(timeout=5)
    assert post(peer).status == 200
    assert peer.connections == 2


def test_a_connection_that_the_peer_ends_is_not_kept(peers: list[Peer]) -> None:
    last = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    peer = serving(peers, last, None, OK)
    assert post(peer).status == 200
    assert post(peer).status == 200


def test_a_chunked_answer_is_put_together(peers: list[Peer]) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n"
    peer = serving(peers, chunked, OK)
    assert post(peer).content == b"[1,2]"
    assert post(peer).content == b"{}"
    assert peer.connections == 1


def test_headers_have_their_usual_names(peers: list[Peer]) -> None:
    peer = serving(peers, b"HTTP/1.1 503 Busy\r\nretry-after: 7\r\nContent-Length: 0\r\n\r\n")
    assert post(peer).headers["Retry-After"] == "7"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n[1,",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + b" " * 2_000_000,
    ],
    ids=["none", "nonsense", "cut body", "cut chunk", "too long"],
)
def test_an_incomplete_answer_is_no_answer(peers: list[Peer], answer: bytes) -> None:
    peer = serving(peers, answer, None)
    with pytest.raises(wire.NoAnswer):
        post(peer)


def test_the_deadline_holds_over_an_answer_that_drips(peers: list[Peer]) -> None:
    def drip(connection: socket.socket) -> None:
        peer.read(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not peer.over.wait(0.05):
            connection.sendall(b" ")

    peer = Peer(drip)
    peers.append(peer)
    with pytest.raises(wire.NoAnswer, match=r"within 0\.3 s"):
        post(peer, seconds=0.3)


class Clock:
    """The time as the exchange sees it: it goes on when the test says so."""

    def __init__(self) -> None:
        self.moment = 1000.0
        self.sleep = time.sleep

    def monotonic(self) -> float:
        return self.moment


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(wire, "time", found)
    return found


def test_nothing_is_sent_on_a_connection_that_came_too_late(
    peers: list[Peer], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    dial = wire._dialled

    def slowly(*args: Any) -> socket.socket:
        sock = dial(*args)
        clock.moment += 2
        return sock

    monkeypatch.setattr(wire, "_dialled", slowly)
    peer = serving(peers, OK)
    with pytest.raises(wire.NotConnected, match="within 1 s"):
        post(peer, seconds=1.0)
    assert peer.closed.acquire(timeout=5)
    assert peer.requests == []


def test_no_address_is_tried_when_its_name_was_found_too_late(
    peers: list[Peer], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = socket.getaddrinfo

    def slowly(*args: Any, **options: Any) -> Any:
        clock.moment += 2
        return find(*args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    peer = serving(peers, OK)
    with pytest.raises(wire.NotConnected):
        post(peer, seconds=1.0)
    assert peer.connections == 0


def test_addresses_share_the_time_of_one_call(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float | None] = []

    class Dead(socket.socket):
        def connect(self, address: Any) -> None:
            given.append(self.gettimeout())
            clock.moment += 4
            raise TimeoutError("nobody answers")

    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)) for port in (7, 8, 9)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)
    monkeypatch.setattr(socket, "socket", Dead)
    with pytest.raises(wire.NotConnected):
        wire.exchange("GET", "http://shop.example", "/", b"", {}, 7.0)
    assert given == [wire.CONNECT_TIMEOUT, 3.0]


def test_an_answer_is_waited_for_no_longer_than_connecting_left(
    peers: list[Peer], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    dial, talk = wire._dialled, wire._talk
    left: list[float | None] = []

    def slowly(*args: Any) -> socket.socket:
        clock.moment += 3
        return dial(*args)

    def listen(connection: HTTPConnection, *args: Any) -> Any:
        left.append(connection.sock.gettimeout())
        return talk(connection, *args)

    monkeypatch.setattr(wire, "_dialled", slowly)
    monkeypatch.setattr(wire, "_talk", listen)
    assert post(serving(peers, OK), seconds=5.0).status == 200
    assert left == [2.0]


def test_no_listener_means_that_nothing_was_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(wire.NotConnected):
        wire.exchange("GET", f"http://127.0.0.1:{port}", "/", b"", {}, 1.0)


@pytest.mark.parametrize(
    ("base", "path", "headers"),
    [
        ("ftp://127.0.0.1", "/", {}),
        ("http://", "/", {}),
        ("http://127.0.0.1:nine", "/", {}),
        ("http://127.0.0.1:1", "/a b\r\n", {}),
        ("http://127.0.0.1:1", "/", {"X-Key": "a\r\nX-Other: b"}),
    ],
)
def test_what_cannot_be_sent_is_said(
    peers: list[Peer], base: str, path: str, headers: dict[str, str]
) -> None:
    peer = serving(peers, OK)
    with pytest.raises(wire.Unsendable):
        wire.exchange("GET", base.replace("http://127.0.0.1:1", peer.url), path, b"", headers, 1.0)


def test_a_prefix_of_the_base_goes_before_the_path(peers: list[Peer]) -> None:
    peer = serving(peers, OK)
    wire.exchange("GET", f"{peer.url}/inventory/", "/saga/one?x=1", b"", {}, 1.0)
    assert peer.requests[0].startswith(b"GET /inventory/saga/one?x=1 HTTP/1.1\r\n")


def test_over_tls_a_certificate_has_to_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Authority(tmp_path, "ours")
    with serving_tls(Shop(ours.certificate("localhost"))) as shop:
        base = f"https://localhost:{shop.port}"
        wire._tls.cache_clear()
        with pytest.raises(wire.NotConnected, match="certificate"):
            wire.exchange("POST", base, "/saga/one", b"{}", {}, 5.0)
        monkeypatch.setenv("SSL_CERT_FILE", str(ours.path))
        wire._tls.cache_clear()
        assert wire.exchange("POST", base, "/saga/one", b"{}", {}, 5.0).status == 204
    wire._tls.cache_clear()
    assert [headers["Host"] for headers, _ in shop.got] == [f"localhost:{shop.port}"]
    assert shop.names == ["localhost", "localhost"]


def test_an_address_of_a_kind_that_the_system_lacks_is_passed_over(
    peers: list[Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = serving(peers, OK)
    found = socket.getaddrinfo

    def both(host: str, port: int, **more: Any) -> list[Any]:
        (one,) = found(host, port, **more)
        return [(12345, *one[1:]), one]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    assert post(peer).status == 200
