"""What may happen to a saga: `decide()`. Pure; `now` is a parameter.

A decision starts from a `SagaState` that was true at revision `rev` and yields the state that
shall follow. Whoever applies it must find the saga still at that revision; if not, the state is
read afresh and the decision made again. So no decision ever rests on a stale sibling, which is
what the join of a parallel group, the undo order and the pivot rules need (rules 3, 6, 13, 14, 15).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sagas.definition import PATIENT, Cached, Fallback, SagaDefinition
from sagas.draft import Draft, idempotency_key, past_pivot, view, with_step
from sagas.state import (
    ACTIVE,
    FINISHED,
    MAX_CRASHES,
    MAX_MAIL,
    MAX_RINGS,
    NEEDS_PERSON,
    SAGA_EDGES,
    Accepted,
    CachedResult,
    Decision,
    Deferred,
    Done,
    Effect,
    Entry,
    Event,
    IllegalTransition,
    Impossible,
    LeaseExpired,
    LockGranted,
    Nothing,
    Outcome,
    Overdue,
    Polled,
    Recorded,
    Refused,
    Resolved,
    Rung,
    SagaState,
    Signalled,
    Status,
    StepState,
    StepStatus,
    Transient,
    Unknown,
    WaitOver,
)

__all__ = [
    "ACTIVE",
    "FINISHED",
    "MAX_CRASHES",
    "MAX_RINGS",
    "NEEDS_PERSON",
    "SAGA_EDGES",
    "Accepted",
    "CachedResult",
    "Decision",
    "Deferred",
    "Done",
    "Draft",
    "Effect",
    "Entry",
    "Event",
    "IllegalTransition",
    "Impossible",
    "LeaseExpired",
    "LockGranted",
    "Nothing",
    "Outcome",
    "Overdue",
    "Polled",
    "Recorded",
    "Refused",
    "Resolved",
    "Rung",
    "SagaState",
    "Signalled",
    "Status",
    "StepState",
    "StepStatus",
    "Transient",
    "Unknown",
    "WaitOver",
    "begin",
    "claim_next",
    "claimable",
    "claimed",
    "decide",
    "idempotency_key",
    "past_pivot",
    "resume_at",
    "view",
    "wake_at",
]

POLL_FIRST = timedelta(seconds=5)
POLL_CAP = timedelta(minutes=10)
LOCK_POLL = timedelta(seconds=30)
RETRY_LATER_AFTER = timedelta(minutes=1)


def wake_at(state: SagaState, ring_after: timedelta, now: datetime) -> datetime | None:
    """When a scan must look at this saga if nothing else happens to it (rule 7); None: never.

    A message was sent for everything due, so a due step is given `ring_after` from now before it is
    rung for again, doubled with every ring in vain: counted from the time it fell due, a backlog
    would be rung for without a pause. A claimed one is left alone until its lease ends.
    """
    if state.status not in ACTIVE or state.paused_at is not None:
        return None
    patience = ring_after * 2 ** min(state.rings, MAX_RINGS)
    times = [step.lease_until for step in state.steps if step.lease_until is not None]
    times += [max(step.due_at, now) + patience for step in state.steps if step.due_at is not None]
    return min([*times, *_wait_ends(state)], default=None)


def resume_at(state: SagaState) -> datetime | None:
    """When a waiting saga must be looked at; None: only the outside can wake it."""
    if state.status is not Status.WAITING or state.paused_at is not None:
        return None
    if state.awaits_lock and state.waiting_since is not None:
        return state.waiting_since + LOCK_POLL
    return min(_wait_ends(state), default=None)


def _wait_ends(state: SagaState) -> list[datetime]:
    waits = [step.wait for step in state.steps if step.wait is not None]
    return [datetime.fromisoformat(w[k]) for w in waits for k in ("until", "poll_at") if w.get(k)]


def claimable(state: SagaState, position: int, epoch: int, now: datetime) -> bool:
    """Rule 4: this direction, this epoch, neither paused nor parked, and the step is due."""
    due = state.steps[position].due_at
    return (
        state.epoch == epoch
        and state.status in ACTIVE
        and state.paused_at is None
        and due is not None
        and due <= now
    )


def claimed(state: SagaState, position: int, now: datetime, lease: timedelta) -> SagaState:
    """`state` after a claim of a claimable step. The store's claim statement does exactly this."""
    step = state.steps[position]
    common: dict[str, Any] = {"due_at": None, "lease_until": now + lease}
    if state.backward:
        step = replace(
            step,
            status=StepStatus.COMPENSATING,
            undo_attempts=step.undo_attempts + 1,
            undo_started_at=step.undo_started_at or now,
            **common,
        )
        saga = state
    else:
        step = replace(
            step,
            status=StepStatus.IN_PROGRESS,
            attempts=step.attempts + 1,
            started_at=step.started_at or now,
            **common,
        )
        saga = replace(state, status=Status.IN_PROGRESS, started_at=state.started_at or now)
    return replace(saga, rev=state.rev + 1, steps=with_step(state.steps, step))


def claim_next(
    definition: SagaDefinition, decision: Decision, now: datetime, margin: timedelta
) -> tuple[Decision, int | None]:
    """`decision` joined with the claim of one step that it makes due now, and that step (inline mode).

    The joined decision stands under the same guard, so it claims nothing that a plain record
    followed by a claim could not have claimed (rule 14).
    """
    state = decision.state
    ready = [p for p in decision.due if claimable(state, p, state.epoch, now)]
    if not ready:
        return decision, None
    position = ready[0]
    after = replace(claimed(state, position, now, lease(definition, position) + margin), rev=state.rev)
    step = after.steps[position]
    entry = (
        Entry("compensation_claimed", step.name, step.undo_attempts)
        if state.backward
        else Entry("step_claimed", step.name, step.attempts)
    )
    changed = tuple(sorted({*decision.changed, position}))
    return Decision(decision.guard, after, changed, (*decision.audit, entry)), position


def lease(definition: SagaDefinition, position: int) -> timedelta:
    """How long a call of this step may take, in either direction."""
    step = definition.steps[position]
    return max(step.timeout, step.undo.timeout) if step.undo is not None else step.timeout


def begin(
    definition: SagaDefinition,
    saga_id: UUID,
    data: Any,
    correlation_id: str,
    now: datetime,
    *,
    entry: Entry,
    execute: bool = True,
    lock_key: str | None = None,
    parent_id: UUID | None = None,
) -> Decision:
    """A new saga with all its steps (rules 1, 2); with `execute` its first steps are due.

    One that takes a semantic lock waits until the lock is granted.
    """
    state = SagaState(
        id=saga_id,
        type=definition.type,
        version=definition.version,
        data=data,
        correlation_id=correlation_id,
        steps=tuple(StepState(item.position, item.name) for item in definition.steps),
        lock_key=lock_key,
        parent_id=parent_id,
        created_at=now,
    )
    draft = Draft(definition, state, now)
    draft.audit.append(entry)
    if execute:
        draft.update(deadline_at=now + definition.deadline)
        if lock_key is None:
            draft.advance()
        else:
            draft.update(status=Status.WAITING, waiting_since=now)
    return draft.decision()


def decide(definition: SagaDefinition, state: SagaState, event: Event, now: datetime) -> Decision | Nothing:
    """What follows from `event` in `state`. Pure: same arguments, same answer."""
    draft = Draft(definition, state, now)
    match event:
        case Recorded():
            reason = _stale(state, event)
            if not reason:
                (_record_undo if event.backward else _record)(draft, event)
        case LeaseExpired():
            reason = _expire_lease(draft, event)
        case Overdue():
            reason = _overdue(draft)
        case Signalled():
            reason = _signalled(draft, event)
        case Resolved():
            reason = _resolved(draft, event)
        case WaitOver():
            reason = _wait_over(draft, event)
        case Polled():
            reason = _polled(draft, event)
        case LockGranted():
            reason = _lock_granted(draft)
        case Rung():
            reason = ""
            draft.update(rings=state.rings + 1)
    return Nothing(reason) if reason else draft.decision()


def _stale(state: SagaState, event: Recorded) -> str:
    """Rule 6: a record that finds its attempt gone writes nothing."""
    step = state.steps[event.position]
    attempt, generation, status = (
        (step.undo_attempts, step.undo_generation, StepStatus.COMPENSATING)
        if event.backward
        else (step.attempts, step.generation, StepStatus.IN_PROGRESS)
    )
    if step.in_flight and (status, attempt, generation) == (step.status, event.attempt, event.generation):
        return ""
    return "the attempt is no longer the current one"


def _record(draft: Draft, event: Recorded) -> None:
    outcome, position = event.outcome, event.position
    before = draft.state.steps[position].effect
    draft.update(rings=0)
    match outcome:
        case Done():
            draft.completed(position, outcome.result)
        case Refused():
            draft.failed(position, Effect.NONE, outcome.code, outcome.reason, "refused")
        case Transient():
            _again_or_failed(draft, event, before, outcome.reason, outcome.retry_after)
        case Unknown():
            _again_or_failed(draft, event, Effect.UNKNOWN, outcome.reason, None)
        case Impossible():
            back = StepStatus.FAILED if draft.state.backward else StepStatus.PENDING
            draft.update_step(position, status=back, effect=Effect.UNKNOWN, lease_until=None)
            if draft.state.status is Status.IN_PROGRESS:
                draft.park(position, outcome.code, outcome.reason)
            else:
                draft.draw_sequence(position)
                draft.note("step_impossible", position, code=outcome.code, reason=outcome.reason)
        case Accepted():
            _accepted(draft, position, outcome.kind)
        case Deferred():
            _deferred(draft, event, outcome)
    _go_on(draft)


def _go_on(draft: Draft) -> None:
    """Continue in the direction of the saga as it stands after the record."""
    if draft.state.status is Status.COMPENSATING:
        draft.undo_next()
    elif draft.state.status in (Status.PENDING, Status.IN_PROGRESS, Status.WAITING):
        draft.advance()


def _accepted(draft: Draft, position: int, kind: str) -> None:
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
    }
    draft.update_step(position, status=StepStatus.WAITING, effect=Effect.UNKNOWN, wait=wait, lease_until=None)
    draft.note("step_waiting", position, kind=kind)


def _deferred(draft: Draft, event: Recorded, outcome: Deferred) -> None:
    """Nothing was sent: the attempt is forgiven; an open circuit may have a fallback (rule 5).

    It is forgiven, not given back: the next claim must not guard its record by the same number.
    """
    position, step = event.position, draft.state.steps[event.position]
    declared = draft.declared(position)
    draft.update_step(position, forgiven=step.forgiven + 1)
    if draft.state.status is Status.COMPENSATING:
        again = StepStatus.FAILED if step.effect is Effect.UNKNOWN else StepStatus.SKIPPED
        draft.update_step(position, status=again, lease_until=None, finished_at=draft.now)
        if step.effect is Effect.UNKNOWN:
            draft.draw_sequence(position)
    elif outcome.circuit_open and _cached(draft, event):
        pass
    elif outcome.circuit_open and declared.fallback is Fallback.SKIP:
        draft.skip(position, outcome.reason)
    elif outcome.circuit_open and declared.fallback is Fallback.COMPENSATE:
        draft.failed(position, step.effect, "circuit_open", outcome.reason, "transient")
    else:
        draft.update_step(
            position,
            status=StepStatus.PENDING,
            lease_until=None,
            due_at=draft.now + outcome.wait,
            error={"step": step.name, "code": "deferred", "reason": outcome.reason},
        )
        draft.note("step_deferred", position, reason=outcome.reason)


def _cached(draft: Draft, event: Recorded) -> bool:
    """Complete with the last known result if the step allows one of that age; says whether it did."""
    fallback, position = draft.declared(event.position).fallback, event.position
    if not isinstance(fallback, Cached) or event.cached is None or event.cached.age > fallback.max_age:
        return False
    age = round(event.cached.age.total_seconds(), 3)
    unknown = draft.state.steps[position].effect is Effect.UNKNOWN
    draft.note("step_cached", position, age_seconds=age)
    draft.completed(position, event.cached.result)
    draft.update_step(
        position,
        effect=Effect.UNKNOWN if unknown else Effect.NONE,
        error={"step": draft.declared(position).name, "code": "cached", "reason": f"data {age} s old"},
    )
    return True


def _again_or_failed(
    draft: Draft, event: Recorded, effect: Effect, reason: str, retry_after: timedelta | None
) -> None:
    """Repeat under the same key after a pause, or give the step up."""
    position = event.position
    step, declared = draft.state.steps[position], draft.declared(position)
    retry, spent = declared.retry, step.attempts - step.forgiven
    kind = "transient" if isinstance(event.outcome, Transient) else "unknown"
    began = step.started_at or draft.now
    too_long = retry.total is not None and draft.now - began >= retry.total
    if (
        draft.state.status is Status.COMPENSATING
        or spent >= retry.attempts
        or too_long
        or kind not in retry.on
    ):
        draft.update_step(position, effect=effect)
        if draft.state.status is not Status.COMPENSATING and _cached(draft, event):
            return
        if declared.fallback is not Fallback.RETRY_LATER or draft.state.status is Status.COMPENSATING:
            code = "outcome_unknown" if effect is Effect.UNKNOWN else "retries_exhausted"
            draft.failed(position, effect, code, reason, kind)
            return
        delay = RETRY_LATER_AFTER
        draft.update_step(position, forgiven=step.attempts)
    else:
        delay = retry.delay(spent, f"{draft.state.id}:{position}")
    delay = max(delay, retry_after or timedelta(0))
    draft.update_step(
        position,
        status=StepStatus.PENDING,
        effect=effect,
        error={"step": step.name, "code": kind, "reason": reason},
        lease_until=None,
        due_at=draft.now + delay,
    )
    draft.note(f"step_{kind}", position, reason=reason, retry_in=round(delay.total_seconds(), 3))


def _record_undo(draft: Draft, event: Recorded) -> None:
    outcome, position = event.outcome, event.position
    draft.update(rings=0)
    match outcome:
        case Done():
            draft.update_step(
                position,
                status=StepStatus.COMPENSATED,
                effect=Effect.UNDONE,
                undo_error=None,
                lease_until=None,
                undo_finished_at=draft.now,
            )
            draft.note("step_compensated", position)
            draft.undo_next()
        case Refused():
            draft.park(position, outcome.code, outcome.reason, refused=True)
        case Impossible():
            draft.park(position, outcome.code, outcome.reason)
        case Transient() | Unknown():
            _undo_again_or_park(draft, position, outcome)
        case Accepted():
            _undo_later(draft, position, "accepted", f"{outcome.kind} is being undone", POLL_FIRST)
        case Deferred():
            _undo_later(draft, position, "deferred", outcome.reason, outcome.wait)


def _undo_later(draft: Draft, position: int, code: str, reason: str, wait: timedelta) -> None:
    """Look again after a pause; this does not count against the compensation's patience."""
    step = draft.state.steps[position]
    draft.update_step(
        position,
        undo_forgiven=step.undo_forgiven + 1,
        undo_error={"step": step.name, "code": code, "reason": reason},
        lease_until=None,
        due_at=draft.now + wait,
    )
    draft.note("compensation_deferred", position, reason=reason)


def _undo_again_or_park(draft: Draft, position: int, outcome: Transient | Unknown) -> None:
    step, undo = draft.state.steps[position], draft.declared(position).undo
    retry, name = (undo.retry, undo.name) if undo is not None else (PATIENT, step.name)
    spent = step.undo_attempts - step.undo_forgiven
    if spent >= retry.attempts:
        draft.park(position, "retries_exhausted", outcome.reason)
        return
    pause = outcome.retry_after if isinstance(outcome, Transient) else None
    delay = max(retry.delay(spent, f"{draft.state.id}:undo:{position}"), pause or timedelta(0))
    draft.update_step(
        position,
        undo_error={"step": name, "code": "retrying", "reason": outcome.reason},
        lease_until=None,
        due_at=draft.now + delay,
    )
    seconds = round(delay.total_seconds(), 3)
    draft.note("compensation_retry", position, reason=outcome.reason, retry_in=seconds)


def _expire_lease(draft: Draft, event: LeaseExpired) -> str:
    """A worker was lost: believe the participant if it knows, else repeat under the same key (rule 9)."""
    position, step = event.position, draft.state.steps[event.position]
    if step.lease_until is None or step.lease_until > draft.now:
        return "the step is not claimed beyond its lease"
    undoing = step.status is StepStatus.COMPENSATING
    crashes = (step.undo_crashes if undoing else step.crashes) + 1
    if undoing:
        draft.update_step(position, undo_crashes=crashes, undo_forgiven=step.undo_forgiven + 1)
    else:
        draft.update_step(position, crashes=crashes, forgiven=step.forgiven + 1)
    draft.note("lease_expired", position, crashes=crashes)
    if event.learnt is not None:
        attempt, generation = (
            (step.undo_attempts, step.undo_generation) if undoing else (step.attempts, step.generation)
        )
        recorded = Recorded(position, undoing, generation, attempt, event.learnt)
        (_record_undo if undoing else _record)(draft, recorded)
        return ""
    if undoing:
        draft.update_step(position, lease_until=None, due_at=draft.now)
    elif draft.state.status is Status.COMPENSATING:
        draft.update_step(
            position, status=StepStatus.FAILED, effect=Effect.UNKNOWN, lease_until=None, finished_at=draft.now
        )
        draft.draw_sequence(position)
        draft.undo_next()
    else:
        draft.update_step(
            position, status=StepStatus.PENDING, effect=Effect.UNKNOWN, lease_until=None, due_at=draft.now
        )
    if crashes >= MAX_CRASHES and draft.state.steps[position].due_at is not None:
        draft.update_step(position, due_at=None)
        draft.park(position, "worker_lost", f"{crashes} workers were lost in this step (rule 5)")
    return ""


def _overdue(draft: Draft) -> str:
    """Rule 20: extend a bounded number of times and retry now, then turn. Says why if it does nothing."""
    state = draft.state
    if state.status not in (Status.PENDING, Status.IN_PROGRESS) or state.paused_at is not None:
        return "only a saga on its way forward times out"
    if state.deadline_at is None or state.deadline_at > draft.now:
        return "the deadline has not passed"
    forward_only = past_pivot(draft.definition, state)
    if state.extensions < draft.definition.extensions or forward_only:
        draft.update(
            deadline_at=draft.now + draft.definition.deadline, extensions=state.extensions + 1, rings=0
        )
        for step in state.steps:
            if step.due_at is not None:
                draft.update_step(step.position, due_at=draft.now)
        draft.note("deadline_extended", extensions=state.extensions + 1, past_pivot=forward_only)
        return ""
    current = next((s.name for s in state.steps if s.in_flight or s.due_at is not None), "")
    draft.turn({"step": current, "code": "timeout", "reason": "the saga's deadline has passed"})
    return ""


# --- Waiting ------------------------------------------------------------------------------------------


def _signalled(draft: Draft, event: Signalled) -> str:
    """Into the mailbox; a step that waits for it consumes it at once (rule 17)."""
    if draft.state.status in FINISHED or draft.state.backward:
        return "the saga has ended or is being undone; the signal changes nothing"
    if len(draft.state.mailbox) >= MAX_MAIL:
        return f"{MAX_MAIL} signals wait unread; no more are taken"
    mail = {"id": event.id, "name": event.name, "data": event.data}
    draft.update(mailbox=(*draft.state.mailbox, mail))
    draft.audit.append(
        Entry("signal", detail={"name": event.name}, actor=event.actor, request_id=f"signal:{event.id}")
    )
    if draft.state.status in (Status.PARKED, Status.PENDING):
        return ""
    for step in draft.state.steps:
        draft.read_mail(step.position)
        if draft.state.backward:
            return ""
    _go_on(draft)
    return ""


def _resolved(draft: Draft, event: Resolved) -> str:
    step = draft.state.steps[event.position]
    if step.status is not StepStatus.WAITING or step.generation != event.generation:
        return "the step no longer waits for this"
    if isinstance(event.outcome, Done):
        draft.completed(event.position, event.outcome.result)
    else:
        draft.failed(event.position, Effect.NONE, event.outcome.code, event.outcome.reason, "refused")
    _go_on(draft)
    return ""


def _wait_over(draft: Draft, event: WaitOver) -> str:
    step = draft.state.steps[event.position]
    end = (step.wait or {}).get("until")
    if step.status is not StepStatus.WAITING or end is None or datetime.fromisoformat(end) > draft.now:
        return "the wait is not over"
    kind = (step.wait or {})["kind"]
    if kind == "timer":
        draft.completed(event.position, {})
    else:
        draft.failed(
            event.position, step.effect, "wait_timeout", f"the {kind} did not come in time", "expired"
        )
    _go_on(draft)
    return ""


def _polled(draft: Draft, event: Polled) -> str:
    step = draft.state.steps[event.position]
    wait = step.wait or {}
    if step.status is not StepStatus.WAITING or "poll_at" not in wait:
        return "the step is not polled"
    polls = wait["polls"] + 1
    again = draft.now + min(POLL_FIRST * 2 ** min(polls, 16), POLL_CAP)
    draft.update_step(event.position, wait={**wait, "polls": polls, "poll_at": again.isoformat()})
    return ""


def _lock_granted(draft: Draft) -> str:
    if not draft.state.awaits_lock:
        return "the saga does not wait for its lock"
    draft.note("lock_granted", key=draft.state.lock_key)
    draft.advance()
    return ""
