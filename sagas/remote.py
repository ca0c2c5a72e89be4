"""Performs one call to a participant and says what became of it (rule 8). No saga state here."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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
        age = now - datetime.fromisoformat(issued_at)
        if age > target.get("key_retention", KEY_RETENTION) - KEY_MARGIN:
            name = request["participant"]
            return Impossible("key_expired", f"{name} may have forgotten the key, it is {age.days} days old")
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
    return _exchange(target, request["method"], request["path"], request["body"], headers, envelope.timeout)


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
            return Refused(str(rest.get("code", "refused")), str(rest.get("reason", "")))
        case Done(result=result):
            return Unknown(f"{participant} says {result}")
        case Transient() | Unknown() | Impossible() | Refused():
            return Unknown(outcome.reason)
        case _:
            return Unknown(f"{participant} answered {outcome}")


def _exchange(
    target: Mapping[str, Any], method: str, path: str, body: str, headers: dict[str, str], timeout: timedelta
) -> Outcome:
    """One exchange with the first address that can be connected to, all within `timeout`."""
    end, last = time.monotonic() + timeout.total_seconds(), "it has no address"
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
            return Impossible("unsendable", str(error))
        except wire.NoAnswer as error:
            return Unknown(str(error))
        directory.reachable(base)
        return classify(answer.status, answer.headers, answer.content)
    return Transient(last)


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
