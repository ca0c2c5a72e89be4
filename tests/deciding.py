"""Sagas brought to a point by pure decisions, for tests of single decisions."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sagas import interventions
from sagas.claims import claimed
from sagas.definition import SagaDefinition
from sagas.interventions import Wish
from sagas.state import (
    Decision,
    Done,
    Entry,
    Event,
    Impossible,
    Outcome,
    Recorded,
    Refused,
    SagaState,
    Signalled,
)
from sagas.transitions import begin, decide

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
LEASE = timedelta(seconds=40)
OK = Done({"id": 1})
NO = Refused("no", "no")
FORBIDDEN = Impossible("http_401", "forbidden")
ANN = Entry("", actor="ann", reason="because", request_id="r1")


def started(definition: SagaDefinition, *, execute: bool = True) -> SagaState:
    """A saga that has just begun."""
    entry = Entry("saga_started")
    return begin(definition, UUID(int=1), {}, "c", NOW, entry=entry, execute=execute).state


def due_position(state: SagaState) -> int:
    """The first step that is due."""
    return next(step.position for step in state.steps if step.due_at is not None)


def taken(state: SagaState, *positions: int) -> SagaState:
    """The saga with these steps claimed, or else its due one."""
    for position in positions or (due_position(state),):
        state = claimed(state, position, NOW, LEASE)
    return state


def happened(definition: SagaDefinition, state: SagaState, event: Event, at: datetime = NOW) -> SagaState:
    """The saga after an event that must lead to a decision."""
    made = decide(definition, state, event, at)
    assert isinstance(made, Decision), made
    return made.state


def recorded(
    definition: SagaDefinition, state: SagaState, position: int, outcome: Outcome, at: datetime = NOW
) -> SagaState:
    """The saga after the outcome of a claimed step was recorded."""
    step, backward = state.steps[position], state.backward
    attempt, generation = (
        (step.undo_attempts, step.undo_generation) if backward else (step.attempts, step.generation)
    )
    return happened(definition, state, Recorded(position, backward, generation, attempt, outcome), at)


def told(definition: SagaDefinition, *outcomes: Outcome, state: SagaState | None = None) -> SagaState:
    """The saga after its calls, in their order, have gone like this."""
    state = state or started(definition)
    for outcome in outcomes:
        position = due_position(state)
        state = recorded(definition, claimed(state, position, NOW, LEASE), position, outcome)
    return state


def signalled(
    definition: SagaDefinition,
    state: SagaState,
    name: str,
    data: object = None,
    number: int = 1,
    at: datetime = NOW,
) -> SagaState:
    """The saga after a signal has come; each `number` is another one."""
    return happened(definition, state, Signalled(str(number), name, data), at)


def wish(
    definition: SagaDefinition, state: SagaState, verb: str, /, at: datetime = LATER, **arguments: Any
) -> SagaState:
    """The saga after a wish that is granted; the audit must say who and why."""
    made = interventions.intervene(definition, state, verb, Wish(**arguments), ANN, at)
    assert isinstance(made, Decision), made
    first = made.audit[0]
    assert (first.kind, first.actor, first.reason, first.request_id) == (verb, "ann", "because", "r1")
    assert made.guard == state.rev
    return made.state
