"""What a person must see stands in the log as an error, with the state of the saga; all else does not."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from sagas import logs
from sagas.claims import claimed
from sagas.definition import SagaDefinition
from sagas.state import Decision, Done, Entry, Event, Impossible, Overdue, Recorded, Refused, SagaState
from sagas.transitions import begin, decide
from tests.definitions import Chain, Pivot

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
LEASE = timedelta(seconds=40)


class Lines:
    """What was logged, by level."""

    def __init__(self) -> None:
        self.errors: dict[str, dict[str, Any]] = {}

    def error(self, kind: str, **fields: Any) -> None:
        self.errors[kind] = fields

    def info(self, kind: str, **fields: Any) -> None:
        """Not an alarm."""

    debug = info


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    """The log of these tests."""
    found = Lines()
    monkeypatch.setattr(logs, "log", found)
    return found


def begun(definition: SagaDefinition) -> SagaState:
    return begin(definition, UUID(int=7), {}, "c", NOW, entry=Entry("saga_started")).state


def told(definition: SagaDefinition, state: SagaState, event: Event, at: datetime = NOW) -> SagaState:
    """The state after a decision that was logged."""
    made = decide(definition, state, event, at)
    assert isinstance(made, Decision), made
    logs.decided(made)
    return made.state


def after_call(definition: SagaDefinition, state: SagaState, outcome: Any) -> SagaState:
    position = next(step.position for step in state.steps if step.due_at is not None)
    state = claimed(state, position, NOW, LEASE)
    return told(definition, state, Recorded(position, False, 0, 1, outcome))


def overdue(definition: SagaDefinition, state: SagaState) -> SagaState:
    assert state.deadline_at is not None
    return told(definition, state, Overdue(), state.deadline_at)


def test_a_final_timeout_is_an_alarm_and_an_extension_is_none(lines: Lines) -> None:
    chain = Chain()
    state = overdue(chain, after_call(chain, begun(chain), Done({"id": 1})))
    assert lines.errors == {}
    overdue(chain, state)
    line = lines.errors["saga_turned"]
    assert (line["code"], line["step"], line["status"]) == ("timeout", "second", "compensating")
    assert line["steps"]["first"]["status"] == "completed"


def test_a_deadline_missed_past_the_pivot_is_an_alarm(lines: Lines) -> None:
    pivot = Pivot()
    state = begun(pivot)
    while not any(pivot.steps[step.position].pivot and step.finished_at for step in state.steps):
        state = after_call(pivot, state, Done({"id": 1}))
    overdue(pivot, state)
    assert lines.errors["deadline_extended"]["past_pivot"] is True


def test_a_refusal_is_no_alarm_and_a_parked_saga_is_one(lines: Lines) -> None:
    chain = Chain()
    after_call(chain, begun(chain), Refused("sold_out", "nothing left"))
    assert lines.errors == {}
    after_call(chain, begun(chain), Impossible("http_403", "not you"))
    line = lines.errors["saga_parked"]
    assert (line["saga"], line["type"], line["correlation_id"]) == (str(UUID(int=7)), "chain", "c")
    assert line["steps"]["first"] == {
        "status": "pending",
        "effect": "unknown",
        "attempts": 1,
        "undo_attempts": 0,
        "error": {"step": "first", "code": "http_403", "reason": "not you", "refused": False},
    }
