"""Every saga of the retail business against the real participants: done, refused, and unknown."""

from collections.abc import Callable

import pytest

from participants.contract.barrier import records
from participants.contract.models import Operation
from sagas import engine
from sagas.definition import registry
from sagas.errors import NotAllowed
from sagas.state import SagaState, Status
from tests.business import CALLS, CHANGES, RESULTS
from tests.retail import drive, each, fault, original, run

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.usefixtures("shop"),
]

FORWARD_ONLY = {"transfer_saga": "point of no return", "store_opening_check": "none of its steps"}
STEPS = [(case, step) for case, steps in CALLS.items() for step in steps]


def prepared(case: str) -> Callable[[], SagaState]:
    """How to run that case; a return has its original sale made first."""
    saga_type, _, paid = case.partition(" ")
    if saga_type != "return_saga":
        return lambda: run(saga_type)
    number = original("online" if paid == "online" else "in store")
    return lambda: run(saga_type, original_transaction_id=number)


def kept(state: SagaState, step: str, participant: str) -> Operation | None:
    """What the participant keeps under the key of a step's action."""
    return records(participant).filter(key=f"{state.id}:{step}:action:0").first()


def compensations(case: str) -> dict[str, str]:
    """The compensation of each step that has one, by step."""
    definition = registry.latest(case.split()[0])
    return {step.name: step.undo.name for step in definition.steps if step.undo is not None}


def undone_steps(state: SagaState) -> list[str]:
    """The steps that were undone, in the order of undoing."""
    done = [step for step in state.steps if step.status == "compensated" and step.undo_finished_at]
    return [step.name for step in sorted(done, key=lambda step: str(step.undo_finished_at))]


@pytest.mark.parametrize("case", CALLS)
def test_done(case: str) -> None:
    state, changed = each(prepared(case))
    assert (state.status, state.error) == (Status.COMPLETED, None)
    assert changed == CHANGES[case]
    assert set(state.result or {}) == RESULTS[case]
    assert [step.name for step in state.steps if step.name in CALLS[case]] == list(CALLS[case])
    for step, participant in CALLS[case].items():
        stored = next(s.request for s in state.steps if s.name == step) or {}
        assert stored["participant"] == participant


@pytest.mark.parametrize(("case", "step"), STEPS)
def test_refused(case: str, step: str) -> None:
    """Everything done before is undone in reverse order, and nothing behind is begun."""
    go, participant = prepared(case), CALLS[case][step]
    fault(participant, step, "refuse", code="not_today", reason="We would rather not.")
    state, changed = each(go)
    before = list(CALLS[case])[: list(CALLS[case]).index(step)]
    to_undo = [name for name in before if name in compensations(case)]
    assert state.status == (Status.COMPENSATED if to_undo else Status.FAILED)
    assert state.error == {"step": step, "code": "not_today", "reason": "We would rather not."}
    assert undone_steps(state) == to_undo[::-1]
    assert changed == {}


@pytest.mark.parametrize(("case", "step"), STEPS)
def test_applied_and_the_answer_lost_once(case: str, step: str) -> None:
    """The call is repeated under its key and has its effect once."""
    go, participant = prepared(case), CALLS[case][step]
    fault(participant, step, "reset_after")
    state, changed = each(go)
    assert state.status == Status.COMPLETED
    assert changed == CHANGES[case]
    assert next(s.attempts for s in state.steps if s.name == step) == 2


@pytest.mark.parametrize(("case", "step"), [pair for pair in STEPS if pair[1] != "record-movement"])
def test_applied_and_never_answered(case: str, step: str) -> None:
    """The step is given up, and undone with those before it."""
    go, participant = prepared(case), CALLS[case][step]
    fault(participant, step, "error_after", times=None)
    state, changed = each(go)
    assert state.status in (Status.COMPENSATED, Status.FAILED)
    assert (state.error or {})["code"] == "outcome_unknown"
    assert changed == {}
    if step in compensations(case):
        record = kept(state, step, participant)
        assert record is not None
        assert record.state == "undone"


def test_a_note_of_a_transfer_that_is_never_answered_waits_for_a_person() -> None:
    fault("inventory", "record-movement", "error_after", times=3)
    state = run("transfer_saga")
    assert (state.status, (state.error or {})["step"]) == (Status.PARKED, "record-movement")

    def resumed() -> SagaState:
        engine.retry(state.id, actor="operator", reason="the inventory answers again")
        return drive(state.id)

    ended, changed = each(resumed)
    assert ended.status == Status.COMPLETED
    assert changed == {}


@pytest.mark.parametrize("case", CALLS)
def test_undoing_whose_answers_are_lost(case: str) -> None:
    """Each compensation is repeated under its key; all of them together take everything back."""
    go, undoing = prepared(case), compensations(case)
    for step, undo in undoing.items():
        fault(CALLS[case][step], undo, "reset_after")
    last = list(CALLS[case])[-1]
    fault(CALLS[case][last], last, "refuse")
    state, changed = each(go)
    assert state.status == (Status.COMPENSATED if undoing else Status.FAILED)
    assert changed == {}
    attempts = {s.name: s.undo_attempts for s in state.steps if s.status == "compensated"}
    assert attempts == {name: 2 for name in undoing if name != last}


@pytest.mark.parametrize("case", [case for case in CALLS if case not in FORWARD_ONLY])
def test_compensated_after_it_was_completed(case: str) -> None:
    go = prepared(case)

    def there_and_back() -> SagaState:
        done = go()
        assert done.status == Status.COMPLETED
        engine.compensate(done.id, actor="operator", reason="a mistake")
        return drive(done.id)

    state, changed = each(there_and_back)
    assert state.status == Status.COMPENSATED
    assert changed == {}


@pytest.mark.parametrize(("case", "reason"), FORWARD_ONLY.items())
def test_not_compensated_after_it_was_completed(case: str, reason: str) -> None:
    done = run(case)
    with pytest.raises(NotAllowed, match=reason):
        engine.compensate(done.id, actor="operator", reason="a mistake")
