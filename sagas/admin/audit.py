"""The audit trail of one saga: who, why, when, what; a page of rows, the latest first asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.safestring import SafeString

from sagas.admin.looks import clock, human, inline, pretty, words
from sagas.models import Saga, SagaEvent

PAGE = 100
LONG = 160


@dataclass(frozen=True, slots=True)
class Event:
    """One audit row, ready to print."""

    at: SafeString
    after: str
    what: str
    step: str
    attempt: int
    actor: str
    reason: str
    epoch: int
    request_id: str
    brief: str
    whole: str
    tone: str


@dataclass(frozen=True, slots=True)
class History:
    """Rows in the order of happening; `older` is where the page before begins, if there is one."""

    events: list[Event]
    older: int | None
    cut: bool


ALARMS = frozenset({"saga_parked", "compensation_failed"})
BAD = frozenset({"saga_turned", "step_refused", "step_unknown", "step_transient", "lease_expired"})


def history(saga: Saga, before: str | None, now: datetime) -> History:
    """The last `PAGE` rows, or those before a given one."""
    rows = SagaEvent.objects.filter(saga=saga).order_by("-id")
    cut = bool(before and before.isdecimal() and len(before) < 19)
    if cut and before is not None:
        rows = rows.filter(id__lt=int(before))
    found = list(rows[: PAGE + 1])
    shown = found[:PAGE][::-1]
    older = shown[0].pk if len(found) > PAGE else None
    return History([_event(row, saga, now) for row in shown], older, cut)


def _event(row: SagaEvent, saga: Saga, now: datetime) -> Event:
    whole = pretty(row.detail) if row.detail else ""
    brief = _brief(row.detail) if row.detail else ""
    return Event(
        at=clock(row.at, now),
        after=f"+{human(row.at - saga.created_at)}",
        what=words(row.kind),
        step=row.step,
        attempt=row.attempt,
        actor=row.actor,
        reason=row.reason,
        epoch=row.epoch,
        request_id=row.request_id or "",
        brief=brief,
        whole=whole if len(brief) > LONG or "…" in brief else "",
        tone=_tone(row),
    )


def _tone(row: SagaEvent) -> str:
    if row.kind in ALARMS:
        return "alarm"
    if row.kind in BAD:
        return "bad"
    return "person" if row.reason else ""


def _brief(detail: Any) -> str:
    if not isinstance(detail, dict):
        return inline(detail, LONG)
    told = [
        f"{words(key)}: {inline(value, 80)}"
        for key, value in detail.items()
        if value not in ("", None, [], {})
    ]
    return "; ".join(told)
