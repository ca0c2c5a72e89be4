"""One HTTP/1.1 exchange over kept-alive connections, under a total deadline. Knows nothing of sagas.

The standard library's client with a pool of its own: a third of the CPU that a general one takes
for a small call. No redirects, no proxies, no decoding, no repeats.
"""

from __future__ import annotations

import atexit
import os
import select
import socket
import ssl
import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, InvalidURL
from typing import Any
from urllib.parse import urlsplit

CONNECT_TIMEOUT = 5.0
MAX_ANSWER = 1_000_000
MAX_IDLE = 16


class NotConnected(Exception):
    """No connection could be made: the peer has provably seen nothing of the request."""


class NoAnswer(Exception):
    """No complete answer came; whether the request was processed is unknown."""


class Unsendable(Exception):
    """The URL or a header cannot be put on the wire."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; the names of `headers` are in their usual case, `Retry-After`."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a participant lives; `prefix` goes before every path."""

    scheme: str
    host: str
    port: int | None
    prefix: str


@lru_cache(maxsize=256)
def origin_of(url: str) -> Origin:
    """The parts of a base URL.

    Raises:
        Unsendable: it is not one of http or https with a host.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Unsendable(f"{url}: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Unsendable(f"{url}: give http:// or https:// and a host")
    return Origin(parts.scheme, parts.hostname, port, parts.path.rstrip("/"))


# --- Connections ---------------------------------------------------------------------------------------


class _InOnePiece(HTTPConnection):
    """Sends a request's head and body together.

    Apart they are two packets, and the peer wakes up twice.
    """

    _held: list[bytes] | None = None

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._held = []
        try:
            super().request(*args, **kwargs)
            pieces = self._held
        finally:
            self._held = None
        super().send(b"".join(pieces))

    def send(self, data: Any) -> None:
        if self._held is None:
            super().send(data)
        else:
            self._held.append(data)


class _Secure(_InOnePiece, HTTPSConnection):
    pass


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


class _Idle:
    """Connections that may be used again, by origin; a forked child must not share its parent's."""

    def __init__(self) -> None:
        self._pid = 0
        self._kept: defaultdict[Origin, deque[HTTPConnection]] = defaultdict(lambda: deque(maxlen=MAX_IDLE))

    def take(self, origin: Origin) -> HTTPConnection | None:
        """One that the peer has not closed meanwhile; None if there is none."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._kept.clear()
        kept = self._kept[origin]
        while kept:
            try:
                connection = kept.pop()
            except IndexError:  # another thread was faster
                return None
            if not _readable(connection.sock):
                return connection
            connection.close()
        return None

    def keep(self, origin: Origin, connection: HTTPConnection) -> None:
        """Have it used again."""
        self._kept[origin].append(connection)

    def close(self) -> None:
        """End them all, in order: at the end of the process an interpreter complains of open ones."""
        if self._pid == os.getpid():
            for kept in self._kept.values():
                while kept:
                    kept.pop().close()


def _readable(sock: socket.socket) -> bool:
    """Nothing is expected on an idle connection: what can be read there is its end."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _connect(origin: Origin, watch: _Watch) -> HTTPConnection:
    """A new connection, watched from its first byte on.

    The look-up of a name cannot be bounded from here; what comes of it too late is not used.
    """
    secure = origin.scheme == "https"
    port = (443 if secure else 80) if origin.port is None else origin.port
    connection: HTTPConnection
    connection = _Secure(origin.host, port, context=_tls()) if secure else _InOnePiece(origin.host, port)
    try:
        connection.sock = sock = _dialled(origin.host, port, watch)
        if secure:
            connection.sock = sock = _tls().wrap_socket(
                sock, server_hostname=origin.host, do_handshake_on_connect=False
            )
            watch.use(sock)
            sock.do_handshake()
    except (OSError, UnicodeError) as error:  # a host name may have no form in the DNS
        connection.close()
        raise NotConnected(f"no connection to {origin.host}: {error}") from error
    return connection


def _dialled(host: str, port: int, watch: _Watch) -> socket.socket:
    """A socket to the first address of a host that can be reached."""
    last = OSError("it has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        timeout = min(CONNECT_TIMEOUT, watch.left())
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # a system without IPv6, say, and a name that has both
            last = error
            continue
        try:
            sock.settimeout(timeout)
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except OSError as error:
            sock.close()
            last = error
    raise last


# --- Total deadline -----------------------------------------------------------------------------------


class _Watch:
    """One call under way: its deadline on the monotonic clock and the socket it uses."""

    __slots__ = ("deadline", "expired", "sock")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.sock: socket.socket | None = None
        self.expired = False

    def use(self, sock: socket.socket) -> None:
        """Have a socket shut at the deadline, and let no wait for it be longer than that.

        Raises:
            TimeoutError: the deadline is past; whoever watches it may not look again.
        """
        self.sock = sock
        sock.settimeout(self.left())

    def left(self) -> float:
        """The seconds until the deadline, always some.

        Raises:
            TimeoutError: there are none.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no time was left")
        return left


class _Watchdog:
    """Looks twice a second at the calls under way and shuts those past their deadline.

    It polls because waking a thread for every call would cost more than the call's own
    bookkeeping; half a second is far below the margin by which a lease outlives its call.
    """

    PERIOD = 0.5

    def __init__(self) -> None:
        self._watches: dict[int, _Watch] = {}
        self._pid = 0

    def enter(self, deadline: float) -> _Watch:
        if self._pid != os.getpid():  # the first call, or the first after a fork
            self._pid, self._watches = os.getpid(), {}
            threading.Thread(target=self._run, name="saga-call-watchdog", daemon=True).start()
        watch = self._watches[threading.get_ident()] = _Watch(deadline)
        return watch

    def leave(self) -> None:
        self._watches.pop(threading.get_ident(), None)

    def _run(self) -> None:
        while True:
            time.sleep(self.PERIOD)
            now = time.monotonic()
            for watch in list(self._watches.values()):
                if watch.deadline <= now and not watch.expired:
                    watch.expired = True
                    if watch.sock is not None:
                        with suppress(OSError):  # already gone, which is what is wanted
                            # Not as TLS has it: that takes the encryption away from who still reads.
                            socket.socket.shutdown(watch.sock, socket.SHUT_RDWR)


_idle = _Idle()
atexit.register(_idle.close)
_watchdog = _Watchdog()


# --- Exchanging ------------------------------------------------------------------------------------------


def exchange(
    method: str, base: str, path: str, body: bytes, headers: Mapping[str, str], seconds: float
) -> Answer:
    """Send one request to `base` + `path` and read its answer, all within `seconds`.

    Raises:
        Unsendable: nothing was sent, and never can be.
        NotConnected: nothing was sent.
        NoAnswer: it was sent, at least in part.
    """
    origin = origin_of(base)
    watch = _watchdog.enter(time.monotonic() + seconds)
    try:
        connection = _idle.take(origin) or _connect(origin, watch)
        try:
            watch.use(connection.sock)
            answer, reusable = _talk(connection, method, origin.prefix + path, body, headers)
        except BaseException:
            connection.close()
            raise
        if reusable:
            _idle.keep(origin, connection)
        else:
            connection.close()
        return answer
    except TimeoutError as error:  # of the watch, before anything was sent
        raise NotConnected(f"no connection to {base} within {seconds:g} s") from error
    except NoAnswer as error:
        if watch.expired:
            raise NoAnswer(f"no complete answer from {base} within {seconds:g} s") from error
        raise NoAnswer(f"no complete answer from {base}: {error}") from error
    finally:
        _watchdog.leave()


def _talk(
    connection: HTTPConnection, method: str, path: str, body: bytes, headers: Mapping[str, str]
) -> tuple[Answer, bool]:
    """The exchange itself, and whether the connection may be used again."""
    try:
        try:
            connection.request(method, path, body or None, dict(headers))
        except BrokenPipeError:
            pass  # the peer may have answered before it closed
        except (ValueError, InvalidURL) as error:  # characters that have no place there
            raise Unsendable(f"{path}: {error}") from error
        response = connection.getresponse()
        content = _whole(response)
    except (HTTPException, OSError) as error:
        raise NoAnswer(str(error) or type(error).__name__) from error
    named = {name.title(): value for name, value in response.headers.items()}
    return Answer(response.status, named, content), response.isclosed() and not response.will_close


def _whole(response: HTTPResponse) -> bytes:
    content = response.read(MAX_ANSWER + 1)
    if len(content) > MAX_ANSWER:
        raise NoAnswer(f"it is longer than {MAX_ANSWER} bytes")
    if response.length:  # the peer closed before all that it had announced
        raise NoAnswer(f"{response.length} bytes of it are missing")
    return content
