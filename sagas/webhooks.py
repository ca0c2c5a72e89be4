"""Tells users' own servers that a saga has ended: found by a scan, stored, then posted until it is taken.

The headers are those of Standard Webhooks: `Webhook-Id` is the same in every attempt, so who has
seen it throws the repeat away, and `Webhook-Signature` is an HMAC of id, time and body.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from django.db import connection, transaction
from uuid_utils.compat import uuid7

from sagas import engine, outbound
from sagas.conf import conf
from sagas.models import Webhook, WebhookDelivery
from sagas.outbound import Forbidden, Unanswered
from sagas.remote import readable
from sagas.state import FINISHED

log = structlog.get_logger(__name__)

PREFIX = "whsec_"
# Sagas that end together may be committed in another order than their times tell: look back that far.
OVERLAP = timedelta(seconds=30)
BATCH = 500
AT_ONCE = 8
TIMEOUT = 5.0
SLICE = 5.0
HELD = timedelta(seconds=60)
FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(hours=1)
ATTEMPTS = 15
LONGEST_REST = timedelta(minutes=5)
KEPT = timedelta(days=30)
PRUNED_AT_ONCE = 1000

ENDED = """
SELECT s.id, s.epoch, s.type, s.version, s.status, s.result::text, s.error::text, s.correlation_id,
       s.created_at, s.finished_at
FROM sagas_saga s
WHERE s.finished_at > %(since)s AND s.finished_at <= %(now)s AND s.status = ANY(%(ends)s)
  AND (%(types)s::text[] = '{}' OR s.type = ANY(%(types)s)) AND (%(all)s OR s.owner_id = %(owner)s)
  AND NOT EXISTS (SELECT FROM sagas_webhookdelivery d
                  WHERE d.webhook_id = %(hook)s AND d.saga_id = s.id AND d.epoch = s.epoch)
ORDER BY s.finished_at LIMIT %(limit)s"""

# Taken for a while, not locked: nothing is open while a stranger's server is waited for.
TAKE = """
UPDATE sagas_webhookdelivery d SET
    due_at = clock_timestamp() + make_interval(secs => %s), attempts = LEAST(attempts + 1, 32767)
WHERE d.id IN (
    SELECT w.id FROM sagas_webhookdelivery w JOIN sagas_webhook h ON h.id = w.webhook_id
    WHERE w.due_at <= clock_timestamp() AND h.active
      AND (h.rests_until IS NULL OR h.rests_until <= clock_timestamp())
    ORDER BY w.due_at LIMIT %s FOR NO KEY UPDATE OF w SKIP LOCKED)
RETURNING d.id, d.webhook_id, d.attempts, d.body, floor(extract(epoch FROM clock_timestamp()))::bigint"""


def new_secret() -> str:
    """A secret to sign with."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def key_of(secret: str) -> bytes:
    """The bytes that a secret stands for.

    Raises:
        ValueError: it is none, or too short to be one.
    """
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None
    if not secret.startswith(PREFIX) or not 24 <= len(key) <= 64:
        raise ValueError(f"give {PREFIX} and 24 to 64 bytes in base64")
    return key


def signature(secret: str, delivery: UUID, moment: int, body: str) -> str:
    """What a receiver must compute as well, over `id.time.body`."""
    signed = f"{delivery}.{moment}.{body}".encode()
    return "v1," + base64.b64encode(hmac.digest(key_of(secret), signed, hashlib.sha256)).decode()


# --- Finding ------------------------------------------------------------------------------------------


def find() -> int:
    """Store a delivery for every end that a hook has not been told yet; returns how many."""
    found = 0
    for hook in Webhook.objects.filter(active=True).select_related("owner"):
        while True:
            batch = _find(hook)
            found += batch
            if batch < BATCH:
                break
    return found


def _find(hook: Webhook) -> int:
    now = engine.clock.now()
    if not hook.owner.is_active:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            ENDED,
            {
                "since": max(hook.mark - OVERLAP, hook.created_at),
                "now": now,
                "ends": [status.value for status in FINISHED],
                "types": hook.types,
                "all": hook.owner.has_perm("sagas.view_saga"),
                "owner": hook.owner_id,
                "hook": hook.pk,
                "limit": BATCH,
            },
        )
        names = [column.name for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    mark = rows[-1]["finished_at"] if len(rows) == BATCH else now
    with transaction.atomic():
        WebhookDelivery.objects.bulk_create(
            [_delivery(hook, row, now) for row in rows], ignore_conflicts=True
        )
        Webhook.objects.filter(pk=hook.pk, mark__lt=mark).update(mark=mark)
    hook.mark = max(hook.mark, mark)
    return len(rows)


def _delivery(hook: Webhook, row: dict[str, Any], now: datetime) -> WebhookDelivery:
    delivery_id = uuid7()
    saga = {
        **{name: row[name] for name in ("type", "version", "status", "correlation_id")},
        "id": str(row["id"]),
        "result": json.loads(row["result"]) if row["result"] else None,
        "error": _error(json.loads(row["error"]) if row["error"] else None),
        "created_at": row["created_at"].isoformat(),
        "finished_at": row["finished_at"].isoformat(),
    }
    body = {"type": f"saga.{row['status']}", "timestamp": row["finished_at"].isoformat(), "data": saga}
    return WebhookDelivery(
        id=delivery_id,
        webhook=hook,
        saga_id=row["id"],
        epoch=row["epoch"],
        body=json.dumps(body, separators=(",", ":")),
        created_at=now,
        due_at=now,
    )


def _error(error: dict[str, Any] | None) -> dict[str, str] | None:
    """What outsiders may know of an error: no traceback."""
    if error is None:
        return None
    hidden = error.get("code") == "definition_error"
    shown = {name: str(error.get(name) or "") for name in ("step", "code", "reason")}
    return shown | {"reason": "a fault in the saga's definition"} if hidden else shown


# --- Delivering ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Taken:
    """One attempt to be made, taken at `moment`: the database's time in seconds, which is what is signed."""

    id: UUID
    webhook_id: int
    attempt: int
    body: str
    moment: int
    url: str
    secret: str


@dataclass(frozen=True, slots=True)
class Answer:
    """How an attempt went; `status` is 0 if nothing was answered."""

    status: int
    error: str = ""
    hopeless: bool = False

    @property
    def taken(self) -> bool:
        """Whether the receiver has it now."""
        return 200 <= self.status < 300


def deliver() -> int:
    """Post what is due, several at once, for a few seconds at most; returns how many attempts were made."""
    made, end = 0, time.monotonic() + SLICE
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="saga-webhook") as senders:
        while time.monotonic() < end:
            batch = _take(AT_ONCE)
            # Threads only talk to strangers; the database is this thread's.
            for taken, answer in zip(batch, senders.map(_send, batch), strict=True):
                _noted(taken, answer)
            made += len(batch)
            if len(batch) < AT_ONCE:
                break
    return made


def _take(limit: int) -> list[Taken]:
    with connection.cursor() as cursor:
        cursor.execute(TAKE, (HELD.total_seconds(), limit))
        rows = cursor.fetchall()
    hooks = Webhook.objects.in_bulk({row[1] for row in rows})
    return [
        Taken(delivery, hook, attempt, body, moment, hooks[hook].url, hooks[hook].secret)
        for delivery, hook, attempt, body, moment in rows
    ]


def _send(taken: Taken) -> Answer:
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "sagas-webhooks/1",
        "Webhook-Id": str(taken.id),
        "Webhook-Timestamp": str(taken.moment),
        "Webhook-Signature": signature(taken.secret, taken.id, taken.moment, taken.body),
    }
    private = conf().webhooks_private
    try:
        status = outbound.post(taken.url, taken.body.encode(), headers, timeout=TIMEOUT, private=private)
    except Forbidden as error:
        return Answer(0, readable(str(error)), hopeless=True)
    except Unanswered as error:
        return Answer(0, readable(str(error)))
    except Exception as error:  # no stranger's server may hold up what others are to be told
        log.exception("webhook failed", delivery=str(taken.id))
        return Answer(0, readable(f"{type(error).__name__}: {error}"))
    return Answer(status, "" if 200 <= status < 300 else f"answered {status}", hopeless=status == 410)


def _noted(taken: Taken, answer: Answer) -> None:
    """Write down how an attempt went; what cannot be written is tried again, and holds up no other."""
    try:
        with transaction.atomic():
            _note(taken, answer)
    except Exception:
        log.exception("webhook not noted", delivery=str(taken.id))


def _note(taken: Taken, answer: Answer) -> None:
    """Write down how an attempt went. Nothing is overwritten that was settled meanwhile."""
    now = engine.clock.now()
    delivery = WebhookDelivery.objects.filter(id=taken.id, delivered_at=None, attempts=taken.attempt)
    hook = Webhook.objects.filter(pk=taken.webhook_id)
    if answer.taken:
        delivery.update(due_at=None, delivered_at=now, status_code=answer.status, error="")
        hook.exclude(failures=0).update(failures=0, rests_until=None)
        return
    over = answer.hopeless or taken.attempt >= ATTEMPTS
    delivery.update(
        due_at=None if over else now + pause(taken.attempt),
        given_up_at=now if over else None,
        status_code=answer.status or None,
        error=answer.error,
    )
    failures = min(hook.values_list("failures", flat=True).first() or 0, 20) + 1
    rest = min(timedelta(seconds=2**failures), LONGEST_REST)
    hook.update(failures=failures, rests_until=now + rest)  # its other deliveries need not fail one by one
    say = log.error if over else log.info
    say("webhook not taken", delivery=str(taken.id), attempt=taken.attempt, error=answer.error, given_up=over)


def pause(attempt: int) -> timedelta:
    """How long to wait behind that attempt; a little by chance, so that they do not come all at once."""
    doublings = min(attempt - 1, 20)
    longest = min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE)
    return longest * (1 - secrets.randbelow(1000) / 5000)


def scan() -> tuple[int, int]:
    """Find ends, post what is due, forget what is old; how many of the first two."""
    found, posted = (find(), deliver()) if Webhook.objects.exists() else (0, 0)
    old = WebhookDelivery.objects.filter(due_at=None, created_at__lt=engine.clock.now() - KEPT)
    old.filter(pk__in=old.values_list("pk", flat=True)[:PRUNED_AT_ONCE]).delete()
    engine.beat("webhooks", {"found": found, "posted": posted})
    return found, posted


# --- What people do -----------------------------------------------------------------------------------


def again(deliveries: Sequence[UUID]) -> int:
    """Post these once more, at the next scan; returns how many."""
    chosen = WebhookDelivery.objects.filter(id__in=deliveries)
    return int(
        chosen.update(due_at=engine.clock.now(), attempts=0, delivered_at=None, given_up_at=None, error="")
    )
