"""What a person may do to a saga, as pure decisions; `engine.py` applies them (rule 24).

Each returns a `Decision`, `Nothing` when the wish is already fulfilled, or raises `NotAllowed`
with what would be allowed instead. Every one that changes anything starts a new epoch.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sagas.definition import SagaDefinition
from sagas.errors import NotAllowed
from sagas.transitions import (
    Decision,
    Draft,
    Effect,
    Entry,
    Nothing,
    SagaState,
    Status,
    StepStatus,
    past_pivot,
)


def execute(
    definition: SagaDefinition, state: SagaState, who: Entry, now: datetime
) -> Decision | Nothing:
    """Start a saga that was created to wait for it; one that runs or has ended just stays as it is."""
    if state.status is not Status.PENDING or state.deadline_at is not None:
        return Nothing("the saga was started before")
    draft = Draft(definition, state, now)
    draft.audit.append(who)
    draft.update(deadline_at=now + definition.deadline, epoch=state.epoch + 1)
    draft.advance()
    return draft.decision()


def compensate(
    definition: SagaDefinition, state: SagaState, who: Entry, now: datetime
) -> Decision | Nothing:
    """Undo a running, parked or completed saga."""
    if state.status in (Status.COMPENSATING, Status.COMPENSATED):
        return Nothing("the saga is being undone or is undone")
    if state.status is Status.FAILED:
        raise NotAllowed("the saga failed with nothing to undo; use retry to run it again")
    if state.status is Status.COMPENSATION_FAILED:
        raise NotAllowed("its compensation is parked; use retry to let it go on")
    if past_pivot(definition, state):
        raise NotAllowed("the saga is past its point of no return; it can only go forward")
    draft = Draft(definition, state, now)
    if state.status is Status.COMPLETED and not draft.undo_set():
        raise NotAllowed("the saga has completed and none of its steps can be undone")
    draft.audit.append(who)
    draft.turn({"step": "", "code": "compensation_requested", "reason": who.reason or "requested"})
    return draft.decision()


def retry(
    definition: SagaDefinition, state: SagaState, who: Entry, now: datetime
) -> Decision | Nothing:
    """Let a saga go on that failed, is parked, or waits for its next attempt."""
    draft = Draft(definition, state, now)
    draft.audit.append(who)
    match state.status:
        case Status.FAILED | Status.COMPENSATED:
            _run_again(draft)
        case Status.COMPENSATION_FAILED:
            _undo_again(draft)
        case Status.PARKED:
            _resume(draft)
        case Status.IN_PROGRESS | Status.COMPENSATING:
            if not _hurry(draft):
                return Nothing("its current step is being worked on")
        case Status.COMPLETED:
            raise NotAllowed("the saga has completed; there is nothing to retry")
        case _:
            raise NotAllowed("the saga was not started yet; use execute")
    return draft.decision()


def _run_again(draft: Draft) -> None:
    """From the first step, under new generations: every old effect is undone or never was (rule 11)."""
    draft.update(
        status=Status.IN_PROGRESS,
        epoch=draft.state.epoch + 1,
        rings=0,
        extensions=0,
        error=None,
        result=None,
        finished_at=None,
        deadline_at=draft.now + draft.definition.deadline,
    )
    for step in draft.state.steps:
        begun = step.attempts > 0
        draft.update_step(
            step.position,
            status=StepStatus.PENDING,
            effect=Effect.NONE,
            generation=step.generation + (1 if begun else 0),
            attempts=0,
            crashes=0,
            forgiven=0,
            sequence=None,
            due_at=None,
            request=None,
            result=None,
            error=None,
            started_at=None,
            finished_at=None,
            undo_generation=step.undo_generation + (1 if step.undo_attempts else 0),
            undo_attempts=0,
            undo_crashes=0,
            undo_forgiven=0,
            undo_request=None,
            undo_error=None,
            undo_started_at=None,
            undo_finished_at=None,
        )
    draft.advance()


def _undo_again(draft: Draft) -> None:
    """Let a parked compensation go on: a definite refusal asks for a new key, all else keeps it (rule 11)."""
    draft.update(status=Status.COMPENSATING, epoch=draft.state.epoch + 1, rings=0)
    for step in draft.state.steps:
        if step.status is not StepStatus.COMPENSATION_FAILED:
            continue
        new_key = bool((step.undo_error or {}).get("refused"))
        draft.update_step(
            step.position,
            status=StepStatus.COMPENSATING,
            undo_generation=step.undo_generation + (1 if new_key else 0),
            undo_request=None if new_key else step.undo_request,
            undo_attempts=0 if new_key else step.undo_attempts,
            undo_forgiven=0 if new_key else step.undo_attempts,
            undo_crashes=0,
            undo_error=None,
        )
    draft.undo_next()


def _resume(draft: Draft) -> None:
    """Let a parked saga go on forward; what failed meanwhile beside the parked step turns it."""
    draft.update(status=Status.IN_PROGRESS, epoch=draft.state.epoch + 1, rings=0, error=None)
    failed = next((s for s in draft.state.steps if s.status is StepStatus.FAILED), None)
    if failed is not None:
        draft.turn(failed.error or {"step": failed.name, "code": "failed", "reason": "failed"})
        return
    for step in draft.state.steps:
        if step.status is not StepStatus.PENDING or step.due_at is not None:
            continue
        new_key = bool((step.error or {}).get("refused"))
        draft.update_step(
            step.position,
            generation=step.generation + (1 if new_key else 0),
            request=None if new_key else step.request,
            attempts=0 if new_key else step.attempts,
            forgiven=0 if new_key else step.attempts,
            crashes=0,
            error=None,
        )
    draft.update(
        deadline_at=max(draft.state.deadline_at or draft.now, draft.now + draft.definition.deadline)
    )
    draft.advance()


def _hurry(draft: Draft) -> bool:
    """Make due now what waits for its next attempt; tells whether anything did."""
    waiting = [step for step in draft.state.steps if step.due_at is not None]
    for step in waiting:
        draft.update_step(step.position, due_at=draft.now)
    if waiting:
        draft.update(epoch=draft.state.epoch + 1, rings=0)
    return bool(waiting)


def entry(kind: str, actor: str, reason: str, request_id: str | None) -> Entry:
    """The audit row of an intervention: who, why, and the id that makes repeating it harmless."""
    return replace(Entry(kind), actor=actor, reason=reason, request_id=request_id)
