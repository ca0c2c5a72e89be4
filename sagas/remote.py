"""Performs one call to a participant and says what became of it (rule 8). No saga state here.

Connections are kept alive, one pool per process. A total deadline holds over connect, headers
and body together: a watchdog shuts the socket of a call that drips on beyond it.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any
from urllib.parse import quote
from uuid import UUID

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, LocationValueError, NewConnectionError

from sagas.conf import conf
from sagas.state import Accepted, Done, Impossible, Outcome, Refused, Transient, Unknown

CONNECT_TIMEOUT = 5.0
ASK_TIMEOUT = timedelta(seconds=5)
MAX_ANSWER = 1_000_000
KEY_RETENTION = timedelta(days=30)
KEY_MARGIN = timedelta(days=1)
NEVER_PROCESSED = frozenset({425, 429})
NEEDS_A_PERSON = frozenset({401, 403, 404, 405, 410})
REFUSALS = frozenset({409, 422})


@dataclass(frozen=True, slots=True)
class Envelope:
    """What goes with a call: whose it is, its key, and how long it may take in all."""

    saga_id: UUID
    step: str
    key: str
    correlation_id: str
    timeout: timedelta
    compensates: str | None = None
    compensates_issued_at: str = ""
    callback: str = ""


# --- Total deadline -----------------------------------------------------------------------------------


class _Watch:
    """One call under way: its deadline on the monotonic clock and the connection it uses."""

    __slots__ = ("connection", "deadline", "expired")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.connection: HTTPConnection | None = None
        self.expired = False


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

    def uses(self, connection: HTTPConnection) -> None:
        watch = self._watches.get(threading.get_ident())
        if watch is not None:
            watch.connection = connection

    def _run(self) -> None:
        while True:
            time.sleep(self.PERIOD)
            now = time.monotonic()
            for watch in list(self._watches.values()):
                if watch.deadline <= now and not watch.expired:
                    watch.expired = True
                    sock = watch.connection.sock if watch.connection is not None else None
                    if sock is not None:
                        with suppress(OSError):  # already gone, which is what is wanted
                            sock.shutdown(socket.SHUT_RDWR)


_watchdog = _Watchdog()


class _Watched(HTTPConnection):
    """Tells the watchdog of its requests, and sends each in one piece.

    Head and body apart are two packets, and the peer wakes up twice.
    """

    _held: list[bytes] | None = None

    def request(self, *args: Any, **kwargs: Any) -> None:
        _watchdog.uses(self)
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


class _WatchedHTTPConnection(_Watched):
    pass


class _WatchedHTTPSConnection(_Watched, HTTPSConnection):
    pass


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _WatchedHTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPSConnection


@cache
def _connections(pid: int) -> urllib3.PoolManager:
    """The pools of this process; a forked child must not share its parent's sockets."""
    pools = urllib3.PoolManager(num_pools=32, maxsize=16, block=False, retries=False)
    pools.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
    return pools


# --- Calling -----------------------------------------------------------------------------------------


def perform(request: Mapping[str, Any], envelope: Envelope, now: datetime) -> Outcome:
    """Send a stored request once and classify what came back; never raises for what a peer does.

    A key that its participant may have forgotten by `now` (the database's time) is not sent: the
    call could have its effect a second time (rule 23).
    """
    target = conf().participants.get(request["participant"])
    if target is None:
        name = request["participant"]
        return Impossible("not_configured", f"add {name!r} with its url to SAGAS['PARTICIPANTS']")
    for issued_at in filter(None, (request["issued_at"], envelope.compensates_issued_at)):
        age = now - datetime.fromisoformat(issued_at)
        if age > target.get("key_retention", KEY_RETENTION) - KEY_MARGIN:
            name = request["participant"]
            return Impossible("key_expired", f"{name} may have forgotten the key, it is {age.days} days old")
    headers = {
        "Authorization": f"Bearer {target.get('credential', '')}",
        "Accept": "application/json",
        "Idempotency-Key": envelope.key,
        "X-Key-Issued-At": request["issued_at"],
        "X-Saga-Id": str(envelope.saga_id),
        "X-Saga-Step": envelope.step,
        "X-Correlation-Id": envelope.correlation_id,
        "traceparent": f"00-{envelope.saga_id.hex}-{secrets.token_hex(8)}-01",
    }
    if envelope.compensates is not None:
        headers["X-Compensates"] = envelope.compensates
        headers["X-Compensates-Issued-At"] = envelope.compensates_issued_at
    if envelope.callback:
        headers["X-Callback-Url"] = envelope.callback
    if request["body"]:
        headers["Content-Type"] = "application/json"
    url = target["url"].rstrip("/") + request["path"]
    answer = _exchange(request["method"], url, request["body"], headers, envelope.timeout)
    return answer if isinstance(answer, Transient | Unknown | Impossible) else classify(*answer)


def ask(participant: str, key: str) -> Done | Refused | Unknown:
    """What became of the operation under `key`, by the participant's status query (rule 9)."""
    target = conf().participants.get(participant)
    if target is None:
        return Unknown(f"{participant} is not configured")
    url = f"{target['url'].rstrip('/')}/saga/operations/{quote(key, safe='')}"
    headers = {"Authorization": f"Bearer {target.get('credential', '')}", "Accept": "application/json"}
    answer = _exchange("GET", url, "", headers, ASK_TIMEOUT)
    outcome = answer if isinstance(answer, Transient | Unknown | Impossible) else classify(*answer)
    match outcome:
        case Done(result={"state": "completed", **rest}):
            return Done(rest.get("result"))
        case Done(result={"state": "failed", **rest}):
            return Refused(str(rest.get("code", "refused")), str(rest.get("reason", "")))
        case Done(result=result):
            return Unknown(f"{participant} says {result}")
        case Transient() | Unknown() | Impossible() | Refused():
            return Unknown(outcome.reason)
        case _:
            return Unknown(f"{participant} answered {outcome}")


def _exchange(
    method: str, url: str, body: str, headers: dict[str, str], timeout: timedelta
) -> tuple[int, Mapping[str, str], bytes] | Transient | Unknown | Impossible:
    total = timeout.total_seconds()
    watch = _watchdog.enter(time.monotonic() + total)
    try:
        response = _connections(os.getpid()).request(
            method,
            url,
            body=body.encode() or None,
            headers=headers,
            timeout=urllib3.Timeout(connect=min(CONNECT_TIMEOUT, total), read=total),
            preload_content=False,
            redirect=False,
        )
        content = response.read(MAX_ANSWER + 1)
        if len(content) > MAX_ANSWER:
            response.close()
            return Unknown(f"the answer is longer than {MAX_ANSWER} bytes")
        response.release_conn()
    except (NewConnectionError, ConnectTimeoutError) as error:
        return Transient(f"no connection to {url}: {error}")
    except LocationValueError as error:
        return Impossible("bad_url", f"{url}: {error}")
    except (HTTPError, OSError) as error:
        if watch.expired:
            return Unknown(f"no complete answer from {url} within {total:g} s")
        return Unknown(f"no complete answer from {url}: {error}")
    finally:
        _watchdog.leave()
    return response.status, response.headers, content


def classify(status: int, headers: Mapping[str, str], content: bytes) -> Outcome:
    """Rule 8: done, refused, transient, unknown, or one for a person."""
    envelope = _envelope(content)
    if status in (200, 201):
        if envelope.get("status") == "success":
            return Done(envelope.get("data"))
        return Unknown(f"{status} without a success envelope: {content[:200]!r}")
    if status == 202:
        return Accepted("callback")
    if status in REFUSALS and envelope.get("status") == "failed" and envelope.get("code"):
        code, reason = str(envelope["code"]), str(envelope.get("reason", ""))
        return Impossible(code, reason) if code == "key_mismatch" else Refused(code, reason)
    if status in NEEDS_A_PERSON:
        reason = envelope.get("reason") or "the effect is unknown, a person must look"
        return Impossible(f"http_{status}", f"HTTP {status}: {reason}")
    wait = retry_after(headers.get("Retry-After"), datetime.now(UTC))
    if status in NEVER_PROCESSED or (status == 503 and wait is not None):
        return Transient(f"HTTP {status}", wait)
    return Unknown(f"HTTP {status}: {content[:200]!r}")


def _envelope(content: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(content, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")  # RFC 8259, 6; and PostgreSQL would not store it


def retry_after(value: str | None, now: datetime) -> timedelta | None:
    """`Retry-After` in seconds or as a date (RFC 9110, 10.2.3); None if absent or unreadable."""
    if value is None:
        return None
    digits = value.strip()
    if digits.isascii() and digits.isdigit():
        return timedelta(seconds=min(int(digits), 86_400) if len(digits) < 10 else 86_400)
    try:
        return max(parsedate_to_datetime(value) - now, timedelta(0))
    except (ValueError, TypeError):
        return None
