"""Parents and children as `worker.py` has them: started once, undone with their parent (rule 18)."""

from __future__ import annotations

from collections.abc import Generator
from datetime import datetime

from sagas import children, interventions
from sagas.errors import InvalidInput, LockHeld, SagaError
from sagas.facts import idempotency_key
from sagas.interventions import Wish
from sagas.state import (
    Accepted,
    Decision,
    Done,
    Effect,
    Entry,
    Impossible,
    Outcome,
    Refused,
    SagaState,
    Transient,
)
from sagas.testing.invariants import Cause
from sagas.testing.stage import Stage, due

Acting = Generator[datetime | None, None, Outcome]


def start_child(stage: Stage, state: SagaState, position: int) -> Acting:
    """Start the child, or find the one that this step and generation started before."""
    try:
        child = _child(stage, state, position)
    except LockHeld as error:
        if state.steps[position].effect is Effect.UNKNOWN:
            return Transient(str(error))
        return Refused("lock_held", str(error))
    except SagaError as error:
        return Impossible("child_not_started", str(error))
    yield None
    known = child.state
    if known.awaits_lock:
        known = yield from child.take_lock("its start")
    child.ring(known, due(known))
    return children.outcome(known) or Accepted("child")


def undo_child(stage: Stage, state: SagaState, position: int) -> Acting:
    """Have the child undone, started for that if it never was, and look again until it is."""
    key = idempotency_key(state.id, state.steps[position], backward=True)
    try:
        child = _child(stage, state, position)
        yield None
        said = children.undo_outcome(child.definition, child.state)
        if said is not None:
            return said
        after = yield from _compensate(child, key)
    except InvalidInput:
        return Done({})
    except LockHeld as error:
        return Transient(str(error))
    except SagaError as error:
        return Impossible("child_not_undone", str(error))
    child.ring(after, due(after))
    return children.undo_outcome(child.definition, after) or Accepted("child")


def _child(stage: Stage, state: SagaState, position: int) -> Stage:
    step = state.steps[position]
    wanted = (step.request or {})["child"]
    return stage.scene.begin(
        stage.scene.latest(wanted["type"]),
        wanted["data"],
        label=stage.called(step.name),
        parent=stage,
        position=position,
        key=idempotency_key(state.id, step, backward=False),
    )


def _compensate(child: Stage, request_id: str) -> Generator[datetime | None, None, SagaState]:
    if request_id in {entry.request_id for entry in child.store.audit(child.saga_id)}:
        return child.state
    who = Entry("compensate", actor="parent saga", reason="the parent is undone", request_id=request_id)
    settled = yield from child.settle(
        child.state,
        lambda known, now: interventions.intervene(child.definition, known, "compensate", Wish(), who, now),
        Cause("its parent", by_person=True),
    )
    return settled.decision.state if isinstance(settled.decision, Decision) else child.state
