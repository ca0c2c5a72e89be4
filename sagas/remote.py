"""Performs one call to a participant and says what became of it (rule 8). No saga state here."""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

from sagas import directory, wire
from sagas.conf import conf
from sagas.state import Accepted, Done, Impossible, Outcome, Refused, Transient, Unknown

ASK_TIMEOUT = timedelta(seconds=5)
KEY_RETENTION = timedelta(days=30)
KEY_MARGIN = timedelta(days=1)
NEVER_PROCESSED = frozenset({425, 429})
NEEDS_A_PERSON = frozenset({401, 403, 404, 405, 410})
REFUSALS = frozenset({409, 422})
LONGEST_WAIT = timedelta(days=1)
LONGEST_REASON = 300
DEEPEST = 200


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
        if days := outlived(request["participant"], issued_at, now):
            name = request["participant"]
            return Impossible("key_expired", f"{name} may have forgotten the key, it is {days} days old")
    headers = {
        "Authorization": f"Bearer {directory.credential(target)}",
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
    method, path, body = request["method"], request["path"], request["body"]
    return _exchange(target, method, path, body, headers, envelope.timeout, now)


def outlived(participant: str, issued_at: str, now: datetime) -> int:
    """Days that a key is old which its participant may have forgotten by `now`; 0 of others (rule 23)."""
    kept = conf().participants.get(participant, {}).get("key_retention", KEY_RETENTION)
    age = now - datetime.fromisoformat(issued_at)
    return max(age.days, 1) if age > kept - KEY_MARGIN else 0


def ask(participant: str, key: str) -> Done | Refused | Unknown:
    """What became of the operation under `key`, by the participant's status query (rule 9)."""
    target = conf().participants.get(participant)
    if target is None:
        return Unknown(f"{participant} is not configured")
    path = f"/saga/operations/{quote(key, safe='')}"
    headers = {"Authorization": f"Bearer {directory.credential(target)}", "Accept": "application/json"}
    outcome = _exchange(target, "GET", path, "", headers, ASK_TIMEOUT)
    match outcome:
        case Done(result={"state": "completed", **rest}):
            return Done(rest.get("result"))
        case Done(result={"state": "failed", **rest}):
            return Refused(str(rest.get("code", "refused")), readable(rest.get("reason", "")))
        case Done(result={"state": state}):
            return Unknown(f"{participant} says of the operation: {readable(state)}")
        case Transient() | Unknown() | Impossible() | Refused():
            return Unknown(outcome.reason)
        case _:
            return Unknown(f"{participant} does not say what became of the operation")


def _exchange(
    target: Mapping[str, Any],
    method: str,
    path: str,
    body: str,
    headers: dict[str, str],
    timeout: timedelta,
    now: datetime | None = None,
) -> Outcome:
    """One exchange with the first address that can be connected to, all within `timeout`."""
    began, last = time.monotonic(), "it has no address"
    end = began + timeout.total_seconds()
    for base in directory.addresses(target):
        left = end - time.monotonic()
        if left <= 0:
            break
        try:
            answer = wire.exchange(method, base, path, body.encode(), headers, left)
        except wire.NotConnected as error:  # nothing was sent, so the next address may be tried
            directory.unreachable(base)
            last = str(error)
            continue
        except wire.Unsendable as error:
            return Impossible("unsendable", readable(str(error)))
        except wire.NoAnswer as error:
            return Unknown(readable(str(error)))
        directory.reachable(base)
        if now is not None:
            now += timedelta(seconds=time.monotonic() - began)
        return classify(answer.status, answer.headers, answer.content, now)
    return Transient(readable(last))


def classify(status: int, headers: Mapping[str, str], content: bytes, now: datetime | None = None) -> Outcome:
    """Rule 8: done, refused, transient, unknown, or one for a person; `now` by the database's clock."""
    envelope = _envelope(content)
    if status in (200, 201):
        if envelope.get("status") == "success":
            return Done(envelope.get("data"))
        return Unknown(_told(status, "no success envelope", _said(envelope, content)))
    if status == 202:
        return Accepted("callback")
    if status in REFUSALS and envelope.get("status") == "failed" and envelope.get("code"):
        code, reason = str(envelope["code"]), readable(envelope.get("reason", ""))
        return Impossible(code, reason) if code == "key_mismatch" else Refused(code, reason)
    if status in NEEDS_A_PERSON:
        reason = readable(envelope.get("reason")) or "the effect is unknown, a person must look"
        return Impossible(f"http_{status}", _told(status, reason))
    wait = retry_after(headers.get("Retry-After"), _date(headers.get("Date")) or now)
    if status in NEVER_PROCESSED:
        return Transient(f"HTTP {status}", wait, answered=True)
    if status == 503 and wait is not None:
        return Transient(f"HTTP {status}", wait)
    return Unknown(_told(status, _said(envelope, content)))


def _envelope(content: bytes) -> dict[str, Any]:
    """The object in an answer; empty if there is none, or one that could not be stored and sent on."""
    try:
        parsed = json.loads(content, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) and not _deep(parsed, content) else {}


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")  # RFC 8259, 6; and PostgreSQL would not store it


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _deep(parsed: object, content: bytes) -> bool:
    """Whether an answer nests deeper than can safely be written again."""
    if content.count(b"[") + content.count(b"{") <= DEEPEST:
        return False
    layer = [parsed]
    for _ in range(DEEPEST):
        nested = [item for item in layer if isinstance(item, dict | list)]
        layer = [inner for item in nested for inner in (item.values() if isinstance(item, dict) else item)]
    return any(isinstance(item, dict | list) for item in layer)


# --- Reasons -----------------------------------------------------------------------------------------


def readable(value: object) -> str:
    """What a peer gave, as one line of text that people are shown; empty if it gave nothing."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    shown = "".join(c if c.isprintable() else " " for c in text[: 10 * LONGEST_REASON])
    line = " ".join(shown.split())
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 1] + "\u2026"


def _said(envelope: Mapping[str, Any], content: bytes) -> str:
    """The reason in an answer outside the contract; nothing for a page of markup, such as a proxy's."""
    reason = readable(envelope.get("reason"))
    if reason:
        return reason
    text = content.decode(errors="replace")
    return "" if text.lstrip().startswith("<") else readable(text)


def _told(status: int, *parts: str) -> str:
    return readable(": ".join([f"HTTP {status}", *filter(None, parts)]))


# --- Retry-After ---------------------------------------------------------------------------------------


def retry_after(value: str | None, now: datetime | None) -> timedelta | None:
    """`Retry-After` in seconds or as a date (RFC 9110, 10.2.3), at most a day; None if absent or unreadable.

    `now` is the peer's own clock where it told it: a date means what the peer's clock will show.
    """
    if value is None:
        return None
    digits = value.strip()
    if digits.isascii() and digits.isdigit():
        return min(timedelta(seconds=int(digits)), LONGEST_WAIT) if len(digits) < 10 else LONGEST_WAIT
    until = _date(value)
    if until is None or now is None:
        return None
    return min(max(until - now, timedelta(0)), LONGEST_WAIT)


def _date(value: str | None) -> datetime | None:
    """An HTTP date, with its zone."""
    try:
        date = parsedate_to_datetime(value or "")
    except (ValueError, TypeError, OverflowError):
        return None
    return date if date.tzinfo is not None else None
