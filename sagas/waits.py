"""What comes to a waiting saga: signals, callbacks, ends of children, time, a lock. Pure (rule 17)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sagas.draft import Draft
from sagas.facts import unstarted
from sagas.state import (
    FINISHED,
    MAX_MAIL,
    Done,
    Effect,
    Entry,
    Polled,
    Refused,
    Resolved,
    Signalled,
    Status,
    StepState,
    StepStatus,
    WaitOver,
)

EARLY = "early"
POLL_FIRST = timedelta(seconds=5)
POLL_CAP = timedelta(minutes=10)


def accepted(draft: Draft, position: int, kind: str) -> None:
    """The participant or a child has begun: wait for its word, and look now and then (rule 17)."""
    if draft.state.backward:
        draft.update_step(
            position,
            status=StepStatus.FAILED,
            effect=Effect.UNKNOWN,
            lease_until=None,
            finished_at=draft.now,
        )
        draft.draw_sequence(position)
        return
    limit = draft.declared(position).wait_limit
    wait = {
        "kind": kind,
        "name": "",
        "polls": 0,
        "poll_at": (draft.now + POLL_FIRST).isoformat(),
        "until": (draft.now + limit).isoformat() if limit is not None else None,
        "seconds": limit.total_seconds() if limit is not None else None,
    }
    draft.update_step(position, status=StepStatus.WAITING, effect=Effect.UNKNOWN, wait=wait, lease_until=None)
    draft.note("step_waiting", position, kind=kind)


def signalled(draft: Draft, event: Signalled) -> str:
    """Into the mailbox; a step that waits for it consumes it, at once or when the saga goes on (rule 17)."""
    if draft.state.status in FINISHED or draft.state.backward:
        return "the saga has ended or is being undone; the signal changes nothing"
    if len(draft.state.mailbox) >= MAX_MAIL:
        return f"{MAX_MAIL} signals wait unread; no more are taken"
    mail = {"id": event.id, "name": event.name, "data": event.data}
    draft.update(mailbox=(*draft.state.mailbox, mail))
    draft.audit.append(
        Entry("signal", detail={"name": event.name}, actor=event.actor, request_id=f"signal:{event.id}")
    )
    if draft.state.status is not Status.PARKED and not unstarted(draft.state):
        draft.read_all_mail()
        draft.go_on()
    return ""


def resolved(draft: Draft, event: Resolved) -> str:
    """The word of a slow participant or a child; one that overtakes its call's answer is kept (rule 17)."""
    step = draft.state.steps[event.position]
    if step.status is StepStatus.IN_PROGRESS and step.generation == event.generation:
        if early(step) is None:
            draft.update_step(event.position, wait=_kept(event.outcome))
        return ""
    if step.status is not StepStatus.WAITING or step.generation != event.generation:
        return "the step no longer waits for this"
    if isinstance(event.outcome, Done):
        draft.completed(event.position, event.outcome.result)
    else:
        draft.failed(event.position, Effect.NONE, event.outcome.code, event.outcome.reason, "refused")
    draft.go_on()
    return ""


def _kept(outcome: Done | Refused) -> dict[str, Any]:
    if isinstance(outcome, Done):
        return {"kind": EARLY, "result": outcome.result}
    return {"kind": EARLY, "code": outcome.code, "reason": outcome.reason}


def early(step: StepState) -> Done | Refused | None:
    """What was heard of a claimed step before the answer to its call was recorded."""
    kept = step.wait or {}
    if kept.get("kind") != EARLY:
        return None
    return Refused(kept["code"], kept["reason"]) if "code" in kept else Done(kept["result"])


def wait_over(draft: Draft, event: WaitOver) -> str:
    step = draft.state.steps[event.position]
    end = (step.wait or {}).get("until")
    if step.status is not StepStatus.WAITING or end is None or datetime.fromisoformat(end) > draft.now:
        return "the wait is not over"
    if draft.state.paused_at is not None or draft.state.status is Status.PARKED:
        return "the saga stands still, and so does its wait"
    kind = (step.wait or {})["kind"]
    if kind == "timer":
        draft.completed(event.position, {})
    else:
        draft.failed(
            event.position, step.effect, "wait_timeout", f"the {kind} did not come in time", "expired"
        )
    draft.go_on()
    return ""


def postpone(draft: Draft, position: int, end: datetime) -> None:
    """Let a step whose saga stood still wait until `end` at least (rule 20); a timer stays as it is."""
    step = draft.state.steps[position]
    wait = step.wait or {}
    if step.status is StepStatus.WAITING and wait.get("until") and wait["kind"] != "timer":
        until = max(datetime.fromisoformat(wait["until"]), end)
        draft.update_step(position, wait={**wait, "until": until.isoformat()})


def length_of(step: StepState) -> timedelta:
    """How long a step's wait was to be when it began; zero if that is not known."""
    return timedelta(seconds=(step.wait or {}).get("seconds") or 0)


def end_of(step: StepState) -> datetime | None:
    """When a step's wait is over as things stand; None if it has no end or does not wait."""
    until = (step.wait or {}).get("until")
    return datetime.fromisoformat(until) if until and step.status is StepStatus.WAITING else None


def polled(draft: Draft, event: Polled) -> str:
    step = draft.state.steps[event.position]
    wait = step.wait or {}
    if step.status is not StepStatus.WAITING or "poll_at" not in wait:
        return "the step is not polled"
    polls = wait["polls"] + 1
    again = draft.now + min(POLL_FIRST * 2 ** min(polls, 16), POLL_CAP)
    draft.update_step(event.position, wait={**wait, "polls": polls, "poll_at": again.isoformat()})
    return ""


def lock_granted(draft: Draft) -> str:
    if not draft.state.awaits_lock:
        return "the saga does not wait for its lock"
    draft.note("lock_granted", key=draft.state.lock_key)
    draft.advance()
    return ""
