"""The scans: bounded, safe to run twice at once, at worker start and by hand (rules 19 to 21)."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from sagas import children, dispatch, engine, metrics, remote
from sagas.engine import Progress, due_positions
from sagas.facts import idempotency_key
from sagas.state import (
    Done,
    LeaseExpired,
    Overdue,
    Polled,
    Refused,
    Resolved,
    Rung,
    SagaState,
    StepState,
    StepStatus,
    Unknown,
    WaitOver,
)
from sagas.unstorable import UNSTORABLE, unstorable

log = structlog.get_logger(__name__)

BATCH = 50
# Of one scan. A task runs at most two, and the last saga of each may have a whole group of calls to ask
# about: that must end before the task's hard time limit (two minutes) kills the worker's child.
SLICE = timedelta(seconds=30)


def recover() -> int:
    """Let every interrupted or waiting saga go on whose time has come; returns how many it looked at."""
    waiting = _scan(engine.take_waiting, resume)
    interrupted = _scan(engine.take_interrupted, resume)
    engine.beat("recover", {"interrupted": interrupted, "waiting": waiting})
    return interrupted + waiting


def expire() -> int:
    """Extend or turn every overdue saga; returns how many it looked at."""
    seen = _scan(engine.take_overdue, give_up)
    engine.beat("expire", {"seen": seen})
    return seen


def look(saga_id: UUID) -> None:
    """Mend one saga now, and ring for what is due."""
    progress = resume(saga_id)
    if progress.state is not None:
        dispatch.ring(progress.state, progress.due, engine.clock.now())


def _scan(take: Callable[[int, list[UUID]], list[UUID]], mend: Callable[[UUID], Progress]) -> int:
    """Batch after batch until nothing is left or the time slice ends; the next tick goes on.

    No saga is looked at twice. What was taken and not looked at is found again when its hold ends.
    """
    seen: list[UUID] = []
    end = time.monotonic() + SLICE.total_seconds()
    while True:
        batch = take(BATCH, seen)
        for saga_id in batch:
            if time.monotonic() >= end:
                log.warning("scan ends before its work", scan=mend.__name__, seen=len(seen))
                return len(seen)
            seen.append(saga_id)
            _mend(saga_id, mend)
        if len(batch) < BATCH:
            return len(seen)


def _mend(saga_id: UUID, mend: Callable[[UUID], Progress]) -> None:
    """One saga's trouble must not keep the scan from the others; an alert watches the counter."""
    try:
        progress = mend(saga_id)
    except Exception:
        metrics.UNMENDED.labels(mend.__name__).inc()
        log.exception("scan could not mend a saga", scan=mend.__name__, saga=str(saga_id))
        return
    if progress.state is not None:
        dispatch.ring(progress.state, progress.due, engine.clock.now())


def resume(saga_id: UUID) -> Progress:
    """Repair what the fast path lost: leases that ran out, waits that are over; ring for what is due."""
    state = engine.load(saga_id)
    rang_for = due_positions(state)
    for step in state.steps:
        if step.lease_until is not None and step.lease_until <= engine.clock.now():
            state = _end_lease(state, step)
        elif step.status is StepStatus.WAITING:
            state = _look_at_wait(state, step)
    if state.awaits_lock:
        state = engine.take_lock(state)
    if rang_for and due_positions(state):
        state = engine.happened(state, Rung())
    return Progress(state, due_positions(state))


def give_up(saga_id: UUID) -> Progress:
    """Extend an overdue saga's deadline and retry now, or turn it (rule 20)."""
    state = engine.happened(engine.load(saga_id), Overdue())
    return Progress(state, due_positions(state))


def _end_lease(state: SagaState, step: StepState) -> SagaState:
    """Tell the saga that a worker was lost, and what the participant knows of its call."""
    learnt = _learn(state, step)
    try:
        return engine.happened(state, LeaseExpired(step.position, learnt))
    except UNSTORABLE as error:
        if learnt is None:
            raise
        return engine.happened(state, LeaseExpired(step.position, unstorable(state.id, error)))


def _learn(state: SagaState, step: StepState) -> Done | Refused | None:
    """What the participant knows of a claimed step whose worker was lost; None if it cannot tell."""
    backward = step.status is StepStatus.COMPENSATING
    request = step.undo_request if backward else step.request
    if request is None or "participant" not in request:
        return None
    learnt = remote.ask(request["participant"], idempotency_key(state.id, step, backward=backward))
    return None if isinstance(learnt, Unknown) else learnt


def _look_at_wait(state: SagaState, step: StepState) -> SagaState:
    """Ask for what a step waits for, if it is time to; end a wait that has lasted long enough."""
    wait, now = step.wait or {}, engine.clock.now()
    if wait.get("kind") == "child":
        child = engine.child_of(idempotency_key(state.id, step, backward=False))
        ended = children.outcome(child) if child is not None else None
        if ended is not None:
            return engine.happened(state, Resolved(step.position, step.generation, ended))
    if wait.get("until") and datetime.fromisoformat(wait["until"]) <= now:
        return engine.happened(state, WaitOver(step.position))
    if not wait.get("poll_at") or datetime.fromisoformat(wait["poll_at"]) > now:
        return state
    learnt = _learn(state, step) if wait["kind"] == "callback" else None
    if learnt is not None:
        return engine.happened(state, Resolved(step.position, step.generation, learnt))
    return engine.happened(state, Polled(step.position))
