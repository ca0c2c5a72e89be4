"""What happens on the wire: connections kept and found dead, cut, dripping, late and missing answers."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import pytest

from sagas import wire

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
