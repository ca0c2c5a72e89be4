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
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from django.db import connection, transaction
from django.db.models import QuerySet, Value
from django.db.models.functions import Coalesce, NullIf
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
OF_ONE_HOOK = 2
TIMEOUT = 5.0
SLICE = 5.0
HELD = timedelta(seconds=60)
FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(hours=1)
PATIENCE = timedelta(hours=12)
LONGEST_REST = timedelta(minutes=5)
KEPT = timedelta(days=30)
TIDIED_AT_ONCE = 1000

ENDED = """
SELECT s.id, s.epoch, s.type, s.version, s.status, s.result::text, s.error::text, s.correlation_id,
       s.created_at, s.finished_at
FROM sagas_saga s
WHERE s.finished_at > %(since)s AND s.finished_at <= %(now)s AND s.status = ANY(%(ends)s)
  AND (%(types)s::text[] = '{}' OR s.type = ANY(%(types)s)) AND (%(all)s OR s.owner_id = %(owner)s)
  AND NOT EXISTS (SELECT FROM sagas_webhookdelivery d
                  WHERE d.webhook_id = %(hook)s AND d.saga_id = s.id AND d.epoch = s.epoch)
ORDER BY s.finished_at LIMIT %(limit)s"""

# Taken for a while, not locked: nothing is open while a stranger's server is waited for. Few of each hook
# at once, and hooks by chance: slow ones with a backlog leave room for the others. One that fails is tried
# with a single delivery. The rows are locked last, so that the choice reads two a hook and locks no more.
TAKE = """
UPDATE sagas_webhookdelivery d SET
    due_at = statement_timestamp() + make_interval(secs => %(held)s), attempts = LEAST(d.attempts + 1, 32767)
FROM sagas_webhook t
WHERE t.id = d.webhook_id AND d.id IN (
    SELECT l.id FROM sagas_webhookdelivery l
    WHERE l.due_at <= statement_timestamp() AND l.id = ANY(ARRAY(
        SELECT w.id
        FROM sagas_webhook h
        CROSS JOIN LATERAL (
            SELECT p.id, row_number() OVER (ORDER BY p.due_at)
                + (SELECT count(*) FROM unnest(%(flying)s::bigint[]) f WHERE f = h.id) AS nth
            FROM sagas_webhookdelivery p
            WHERE p.webhook_id = h.id AND p.due_at <= statement_timestamp()
            ORDER BY p.due_at LIMIT %(each)s) w
        WHERE h.active AND h.id <> ALL(%(silent)s)
          AND (h.rests_until IS NULL OR h.rests_until <= statement_timestamp())
          AND w.nth <= CASE WHEN h.failures > 0 THEN 1 ELSE %(each)s END
        ORDER BY w.nth, random() LIMIT %(limit)s))
    FOR NO KEY UPDATE SKIP LOCKED)
RETURNING d.id, d.webhook_id, d.attempts, d.body, floor(extract(epoch FROM statement_timestamp()))::bigint,
          d.created_at, t.failures, t.url, t.secret"""


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
    created_at: datetime
    failures: int
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
    flying: dict[Future[Answer], Taken] = {}
    silent = _silent()
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="saga-webhook") as senders:
        while True:
            if time.monotonic() < end:
                under_way = [taken.webhook_id for taken in flying.values()]
                for taken in _take(AT_ONCE - len(flying), under_way, silent):
                    flying[senders.submit(_send, taken)] = taken
            if not flying:
                return made
            # Threads only talk to strangers; the database is this thread's.
            for answered in wait(flying, return_when=FIRST_COMPLETED).done:
                _noted(flying.pop(answered), answered.result())
                made += 1


def _silent() -> list[int]:
    """The hooks that are told nothing for now, since their owner may not log in (any user model says so)."""
    hooks = Webhook.objects.filter(active=True).select_related("owner")
    return [hook.pk for hook in hooks if not hook.owner.is_active]


def _take(limit: int, flying: list[int], silent: Sequence[int] = ()) -> list[Taken]:
    """At most `limit` that are due, but none of `silent` hooks; `flying` has the hook of each under way."""
    with connection.cursor() as cursor:
        cursor.execute(
            TAKE,
            {
                "held": HELD.total_seconds(),
                "each": OF_ONE_HOOK,
                "limit": limit,
                "flying": flying,
                "silent": list(silent),
            },
        )
        return [Taken(*row) for row in cursor.fetchall()]


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
        delivery.update(due_at=None, delivered_at=now, given_up_at=None, status_code=answer.status, error="")
        hook.exclude(failures=0).update(failures=0, rests_until=None)
        return
    end = taken.created_at + PATIENCE
    over = answer.hopeless or now >= end
    delivery.update(
        due_at=None if over else min(now + pause(taken.attempt), end),
        given_up_at=now if over else None,
        status_code=answer.status or None,
        error=answer.error,
    )
    failures = min(taken.failures, 20) + 1
    rest = min(timedelta(seconds=2**failures), LONGEST_REST)
    # Its other deliveries need not fail one by one, and those under way together count as one failure.
    hook.filter(failures=taken.failures).update(failures=failures, rests_until=now + rest)
    say = log.error if over else log.info
    say("webhook not taken", delivery=str(taken.id), attempt=taken.attempt, error=answer.error, given_up=over)


def pause(attempt: int) -> timedelta:
    """How long to wait behind that attempt; a little by chance, so that they do not come all at once."""
    doublings = min(attempt - 1, 20)
    longest = min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE)
    return longest * (1 - secrets.randbelow(1000) / 5000)


def scan() -> tuple[int, int]:
    """Find ends, post what is due, settle and forget what is old; how many of the first two."""
    found, posted = (find(), deliver()) if Webhook.objects.exists() else (0, 0)
    give_up()
    forget()
    engine.beat("webhooks", {"found": found, "posted": posted})
    return found, posted


def give_up() -> int:
    """Settle what nobody took in half a day, also where a hook rests or is not active; how many at once."""
    now = engine.clock.now()
    late = WebhookDelivery.objects.filter(due_at__lte=now, created_at__lte=now - PATIENCE)
    error = Coalesce(NullIf("error", Value("")), Value("there was no attempt in time"))
    return _some(late).update(due_at=None, given_up_at=now, error=error)


def forget() -> int:
    """Remove what was settled long ago; how many at once."""
    old = WebhookDelivery.objects.filter(due_at=None, created_at__lt=engine.clock.now() - KEPT)
    return _some(old).delete()[0]


def _some(rows: QuerySet[WebhookDelivery]) -> QuerySet[WebhookDelivery]:
    oldest = rows.order_by("created_at").values_list("pk", flat=True)[:TIDIED_AT_ONCE]
    return rows.filter(pk__in=oldest).order_by()


# --- What people do -----------------------------------------------------------------------------------


def again(deliveries: Sequence[UUID]) -> int:
    """Post these from the next scan on, as if they had just been found; returns how many."""
    chosen, now = WebhookDelivery.objects.filter(id__in=deliveries), engine.clock.now()
    afresh = {"created_at": now, "due_at": now, "attempts": 0, "error": ""}
    return chosen.update(**afresh, delivered_at=None, given_up_at=None)
