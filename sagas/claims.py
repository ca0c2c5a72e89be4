"""When a step may be claimed, what a claim makes of a saga, and when a scan must look. Pure (rules 4, 7)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sagas.definition import CALL_TIMEOUT, SagaDefinition
from sagas.state import ACTIVE, MAX_RINGS, Decision, Entry, SagaState, Status, StepStatus, replace, with_step

RUNG_WITHIN = timedelta(minutes=1)
LOCK_POLL = timedelta(seconds=30)


def wake_at(state: SagaState, ring_after: timedelta, now: datetime) -> datetime | None:
    """When a scan must look at this saga if nothing else happens to it (rule 7); None: never.

    A message was sent for everything due, so a due step is given `ring_after` from now before it is
    rung for again, doubled with every ring in vain: counted from the time it fell due, a backlog
    would be rung for without a pause. No message is sent for what is due in more than `RUNG_WITHIN`;
    the scan rings for it. A claimed one is left alone until its lease ends.
    """
    if state.status not in ACTIVE or state.paused_at is not None:
        return None
    patience = ring_after * 2 ** min(state.rings, MAX_RINGS)
    times = [step.lease_until for step in state.steps if step.lease_until is not None]
    due = [step.due_at for step in state.steps if step.due_at is not None]
    times += [max(at, now) + patience if at - now <= RUNG_WITHIN else at for at in due]
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
    return replace(decision, state=after, changed=changed, audit=(*decision.audit, entry)), position


def lease(definition: SagaDefinition, position: int) -> timedelta:
    """How long a call of this step may take, in either direction; the usual time if there is no such step."""
    if position >= len(definition.steps):
        return CALL_TIMEOUT
    step = definition.steps[position]
    return max(step.timeout, step.undo.timeout) if step.undo is not None else step.timeout
