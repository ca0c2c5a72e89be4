"""What may happen to a saga: `decide()`. Pure; `now` is a parameter.

A decision starts from a `SagaState` that was true at revision `rev` and yields the state that
shall follow. Whoever applies it must find the saga still at that revision; if not, the state is
read afresh and the decision made again. So no decision ever rests on a stale sibling, which is
what the join of a parallel group, the undo order and the pivot rules need (rules 3, 6, 13, 14, 15).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sagas import waits
from sagas.definition import PATIENT, Cached, Fallback, SagaDefinition
from sagas.draft import Draft
from sagas.facts import CHANGED, fits, past_pivot
from sagas.state import (
    DEFINITION_CHANGED,
    FINISHED,
    MAX_CRASHES,
    NEEDS_PERSON,
    UNDO_UNFINISHED,
    Accepted,
    Decision,
    Deferred,
    Done,
    Effect,
    Entry,
    Event,
    Impossible,
    LeaseExpired,
    LockGranted,
    Nothing,
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

RETRY_LATER_AFTER = timedelta(minutes=1)
ACCEPTED_FOR = timedelta(days=1)
CHILD_FIRST = timedelta(seconds=0.5)


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
    if not fits(definition, state) and not isinstance(event, Rung):
        reason = _misfit(draft, event)
        return Nothing(reason) if reason else draft.decision()
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
            reason = waits.signalled(draft, event)
        case Resolved():
            reason = waits.resolved(draft, event)
        case WaitOver():
            reason = waits.wait_over(draft, event)
        case Polled():
            reason = waits.polled(draft, event)
        case LockGranted():
            reason = waits.lock_granted(draft)
        case Rung():
            reason = ""
            draft.update(rings=state.rings + 1)
    return Nothing(reason) if reason else draft.decision()


def _misfit(draft: Draft, event: Event) -> str:
    """Leave a saga to a person whose steps the definition no longer has; nothing else may touch it."""
    state = draft.state
    said = f"{state.type} version {state.version} {CHANGED}"
    if isinstance(event, Signalled) or (
        state.status in FINISHED | NEEDS_PERSON and not isinstance(event, Recorded)
    ):
        return said
    position: int | None = None
    if isinstance(event, Recorded):  # by a worker that has sent nothing
        if stale := _stale(state, event):
            return stale
        position = event.position if event.backward or not state.backward else None
        if not event.backward:
            _forgive(draft, event.position)
    if draft.state.status not in NEEDS_PERSON:
        draft.park(position, DEFINITION_CHANGED, said)
    return ""


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
    if isinstance(outcome, Accepted | Transient | Unknown | Deferred):
        outcome = waits.early(draft.state.steps[position]) or outcome
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
            waits.accepted(draft, position, outcome.kind)
        case Deferred():
            _deferred(draft, event, outcome)
    draft.go_on()


def _deferred(draft: Draft, event: Recorded, outcome: Deferred) -> None:
    """Nothing was sent: the attempt is forgiven; an open circuit may have a fallback (rule 5)."""
    position, step = event.position, draft.state.steps[event.position]
    declared, too_long = draft.declared(position), _lasted_too_long(draft, event.position)
    _forgive(draft, position)
    if draft.state.status is Status.COMPENSATING:
        return
    if (outcome.circuit_open or too_long) and _cached(draft, event):
        return
    if outcome.circuit_open and declared.fallback is Fallback.SKIP:
        draft.skip(position, outcome.reason)
    elif outcome.circuit_open and declared.fallback is Fallback.COMPENSATE:
        draft.failed(position, step.effect, "circuit_open", outcome.reason, "transient")
    elif too_long and declared.fallback is not Fallback.RETRY_LATER:
        draft.failed(position, step.effect, "retries_exhausted", outcome.reason, "transient")
    else:
        told = {"step": step.name, "code": "deferred", "reason": outcome.reason}
        draft.update_step(position, due_at=draft.now + outcome.wait, error=told)
        draft.note("step_deferred", position, reason=outcome.reason)


def _forgive(draft: Draft, position: int) -> None:
    """End a claim under which nothing was sent: the attempt does not count, and what was known stays so.

    It is forgiven, not given back: the next claim must not guard its record by the same number.
    """
    step = draft.state.steps[position]
    settled = StepStatus.FAILED if step.effect is Effect.UNKNOWN else StepStatus.SKIPPED
    draft.update_step(
        position,
        status=settled if draft.state.backward else StepStatus.PENDING,
        forgiven=step.forgiven + 1,
        lease_until=None,
        finished_at=draft.now if draft.state.backward else None,
    )
    if draft.state.backward and step.effect is Effect.UNKNOWN:
        draft.draw_sequence(position)


def _lasted_too_long(draft: Draft, position: int) -> bool:
    """Whether the step's policy bounds the time of all its attempts, and that is over."""
    total, began = draft.declared(position).retry.total, draft.state.steps[position].started_at
    return total is not None and began is not None and draft.now - began >= total


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
    if (
        draft.state.status is Status.COMPENSATING
        or spent >= retry.attempts
        or _lasted_too_long(draft, position)
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
        case Accepted() if outcome.kind == "callback" and _undo_unfinished(draft, position):
            reason = "the participant accepts the compensation each time it is asked, and does not finish it"
            draft.park(position, UNDO_UNFINISHED, reason)
        case Accepted():
            # A child that is undone by workers of ours is soon done, and nobody brings word of it.
            first, doublings = (CHILD_FIRST, 6) if outcome.kind == "child" else (waits.POLL_FIRST, 3)
            wait = first * 2 ** min(draft.state.steps[position].undo_forgiven, doublings)
            _undo_later(draft, position, "accepted", f"{outcome.kind} is being undone", wait)
        case Deferred():
            _undo_later(draft, position, "deferred", outcome.reason, outcome.wait)


def _undo_unfinished(draft: Draft, position: int) -> bool:
    """Whether a compensation that its participant has accepted was waited for long enough."""
    step, undo = draft.state.steps[position], draft.declared(position).undo
    patience = (undo.retry.total if undo is not None else None) or ACCEPTED_FOR
    return draft.now - (step.undo_started_at or draft.now) >= patience


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
    lasted = draft.now - (step.undo_started_at or draft.now)
    if spent >= retry.attempts or (retry.total is not None and lasted >= retry.total):
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
    learnt = event.learnt or (None if undoing else waits.early(step))
    if learnt is not None:
        attempt, generation = (
            (step.undo_attempts, step.undo_generation) if undoing else (step.attempts, step.generation)
        )
        recorded = Recorded(position, undoing, generation, attempt, learnt)
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
