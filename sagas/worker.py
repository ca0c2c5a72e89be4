"""What a worker does with one message: claim a step, act, record; inline, go on with the next."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import InterfaceError, OperationalError

from sagas import breaker, children, dispatch, engine, metrics, remote
from sagas.callbacks import callback_url
from sagas.claims import lease
from sagas.conf import conf
from sagas.definition import Cached, SagaDefinition, registry
from sagas.engine import Progress
from sagas.errors import InvalidInput, LockHeld, SagaError
from sagas.facts import CHANGED, fits, idempotency_key
from sagas.results import cached_result, keep_result
from sagas.state import (
    DEFINITION_CHANGED,
    Accepted,
    CachedResult,
    Deferred,
    Done,
    Effect,
    Impossible,
    Outcome,
    Refused,
    Resolved,
    SagaState,
    Transient,
    Unknown,
)
from sagas.unstorable import UNSTORABLE, unstorable


def advance(definition: SagaDefinition, saga_id: UUID, position: int, epoch: int) -> Progress:
    """The work of one message, in either direction.

    Inline, the worker goes on with the next step that is due at once, until its time slice ends.
    """
    if definition.type in engine.paused_types():
        return Progress(None)
    slice_end = time.monotonic() + conf().time_slice.total_seconds()
    state = engine.claim(saga_id, position, epoch, lease(definition, position) + conf().lease_margin)
    if state is None:
        return Progress(None)
    if not fits(definition, state):  # `record` parks it
        return engine.record(definition, state, position, Impossible(DEFINITION_CHANGED, ""))
    while True:
        outcome = act(definition, state, position)
        cached = _known_before(definition, state, position, outcome)
        go_on = _may_go_on(definition, slice_end)
        try:
            progress = engine.record(definition, state, position, outcome, cached=cached, go_on=go_on)
        except UNSTORABLE as error:
            return engine.record(definition, state, position, unstorable(saga_id, error))
        if outcome == Accepted("child"):
            progress = _ring_child(state, position, progress)
        if progress.claimed is None or progress.state is None:
            return progress
        if progress.due:  # others of a group: somebody else may take them meanwhile
            dispatch.ring(progress.state, progress.due, engine.clock.now())
        state, position = progress.state, progress.claimed


def _may_go_on(definition: SagaDefinition, slice_end: float) -> bool:
    """Whether this worker may claim the next step with its record (inline mode)."""
    if definition.execution != "inline" or time.monotonic() >= slice_end:
        return False
    try:
        return definition.type not in engine.paused_types()
    except (OperationalError, InterfaceError):  # the record, which must not be lost, has another connection
        return False


def act(definition: SagaDefinition, state: SagaState, position: int) -> Outcome:
    """Do what the claimed step's stored request says; no transaction is open (rule 5)."""
    step = state.steps[position]
    backward = step.undoing
    request = (step.undo_request if backward else step.request) or {}
    if "value" in request:
        return Done(request["value"])
    if "child" in request:
        return _start_child(state, position)
    if "undo_child" in request:
        return _undo_child(state, position)
    declared = definition.steps[position]
    undo = declared.undo if backward else None
    envelope = remote.Envelope(
        saga_id=state.id,
        step=undo.name if undo else declared.name,
        key=idempotency_key(state.id, step, backward=backward),
        correlation_id=state.correlation_id,
        timeout=undo.timeout if undo else declared.timeout,
        compensates=idempotency_key(state.id, step, backward=False) if backward else None,
        compensates_issued_at=(step.request or {}).get("issued_at", "") if backward else "",
        callback="" if backward else callback_url(state, position),
    )
    outcome = _call(state, position, request, envelope)
    if isinstance(outcome, Done) and isinstance(declared.fallback, Cached) and not backward:
        keep_result(request, outcome.result, engine.clock.now())
    return outcome


def _call(state: SagaState, position: int, request: Mapping[str, Any], envelope: remote.Envelope) -> Outcome:
    """Ask the circuit and the limits, then the participant.

    A compensation that an open circuit has held back once goes through the next time, so that the
    circuit can delay it but never block it for good.
    """
    circuit, ticket = breaker.of(request["participant"]), breaker.new_ticket()
    step = state.steps[position]
    held_before = step.undoing and (step.undo_error or {}).get("code") == "deferred"
    held = circuit.admit(ticket, envelope.timeout, force=held_before)
    if held is not None:
        return held
    began = time.monotonic()
    outcome = remote.perform(request, envelope, engine.clock.now())
    metrics.called(request["participant"], time.monotonic() - began)
    circuit.note(ticket, outcome)
    return outcome


def _known_before(
    definition: SagaDefinition, state: SagaState, position: int, outcome: Outcome
) -> CachedResult | None:
    """The last known result of the same call, where the step's fallback asks for it."""
    declared, step = definition.steps[position], state.steps[position]
    request = None if step.undoing else step.request
    wanted = isinstance(declared.fallback, Cached) and isinstance(outcome, Transient | Unknown | Deferred)
    if not wanted or request is None:
        return None
    return cached_result(request, engine.clock.now())


# --- Children (rule 18) -----------------------------------------------------------------------------


def _start_child(state: SagaState, position: int) -> Outcome:
    """Start the child, or find the one that this step and generation started before.

    A refused lock is no answer that is kept under the key: an earlier attempt of which nothing is
    known may start the child as soon as the lock is free.
    """
    try:
        child = _child(state, position)
    except LockHeld as error:
        if state.steps[position].effect is Effect.UNKNOWN:
            return Transient(str(error))
        return Refused("lock_held", str(error))
    except SagaError as error:
        return Impossible("child_not_started", str(error))
    return children.outcome(child) or Accepted("child")


def _ring_child(state: SagaState, position: int, progress: Progress) -> Progress:
    """Let a child begin once its parent waits for it; one that has ended meanwhile is heard at once.

    The word of its end would have come to a parent that did not wait yet (rule 17).
    """
    step = state.steps[position]
    if progress.claimed is not None:
        return progress
    child = None if step.undoing else engine.child_of(idempotency_key(state.id, step, backward=False))
    if child is None or progress.state is None:
        return progress
    ended = children.outcome(child)
    if ended is None:
        dispatch.ring(child, engine.due_positions(child), engine.clock.now())
        return progress
    after = engine.happened(progress.state, Resolved(position, step.generation, ended))
    return Progress(after, engine.due_positions(after))


def _child(state: SagaState, position: int) -> SagaState:
    step = state.steps[position]
    wanted = (step.request or {})["child"]
    return engine.start(
        wanted["type"],
        wanted["data"],
        idempotency_key=idempotency_key(state.id, step, backward=False),
        actor=engine.PARENTS_ACTOR,
        correlation_id=state.correlation_id,
        parent=state,
    ).state


def _undo_child(state: SagaState, position: int) -> Outcome:
    """Have the child undone, and look again until it is; what cannot be undone parks the parent.

    One that was never started is started to be undone at once: a worker that is late then finds it
    ended under its key, as an action finds the tombstone of its compensation (rule 22).
    """
    step = state.steps[position]
    try:
        child = engine.child_of(idempotency_key(state.id, step, backward=False)) or _child(state, position)
        definition = registry.get(child.type, child.version)
        if not fits(definition, child):
            return Impossible("child_not_undone", f"child {child.id}: its definition {CHANGED}")
        said = children.undo_outcome(definition, child)
        if said is not None:
            return said
        progress = engine.undo_child(child, idempotency_key(state.id, step, backward=True))
    except InvalidInput:  # no child can begin with this input, however late
        return Done({})
    except LockHeld as error:
        return Transient(str(error))
    except SagaError as error:
        return Impossible("child_not_undone", str(error))
    if progress.state is None:
        return Accepted("child")
    dispatch.ring(progress.state, progress.due, engine.clock.now())
    return children.undo_outcome(definition, progress.state) or Accepted("child")
