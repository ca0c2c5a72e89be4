"""Rule 15: from the claim of the pivot on, or from its end by whatever means, there is no way back."""

from datetime import timedelta

import pytest

from sagas import interventions
from sagas.errors import NotAllowed
from sagas.facts import past_pivot
from sagas.interventions import Wish
from sagas.state import Deferred, Effect, Outcome, SagaState, Status, StepStatus, Unknown
from tests.deciding import ANN, FORBIDDEN, LATER, NO, OK, recorded, signalled, taken, told, wish
from tests.definitions import Pivot, Signed

PIVOT, SIGNED = Pivot(), Signed()
YES = {"approved": True}


def signed() -> SagaState:
    """Past a pivot that is an approval, before a parallel group."""
    return signalled(SIGNED, told(SIGNED, OK), "signed", YES)


def parked_beside(outcome: Outcome) -> SagaState:
    """The parcel is parked, and the letter has ended like this."""
    state = taken(signed(), 2, 3)
    state = recorded(SIGNED, state, 3, FORBIDDEN)
    assert state.status is Status.PARKED
    return recorded(SIGNED, state, 2, outcome)


def test_a_pivot_that_waits_is_passed_once_its_wait_is_over() -> None:
    before = told(SIGNED, OK)
    assert not past_pivot(SIGNED, before)
    assert wish(SIGNED, before, "compensate").status is Status.COMPENSATING
    with pytest.raises(NotAllowed, match="past its point of no return"):
        interventions.intervene(SIGNED, signed(), "compensate", Wish(), ANN, LATER)
    refused = recorded(SIGNED, taken(signed(), 3), 3, NO)
    assert refused.status is Status.PARKED


def test_a_pivot_done_by_hand_is_passed() -> None:
    done = wish(PIVOT, told(PIVOT, OK), "mark-done", step="pay", data={"id": 1})
    assert past_pivot(PIVOT, done)
    assert told(PIVOT, NO, state=done).status is Status.PARKED


def test_a_pivot_that_was_never_sent_is_not_passed() -> None:
    state = told(PIVOT, OK, Deferred("open", timedelta(seconds=5)))
    skipped = wish(PIVOT, state, "skip", step="pay")
    assert not past_pivot(PIVOT, skipped)
    assert told(PIVOT, NO, state=skipped).status is Status.COMPENSATING


def test_a_pivot_left_out_though_it_may_have_happened_is_passed() -> None:
    state = told(PIVOT, OK, FORBIDDEN)
    assert past_pivot(PIVOT, wish(PIVOT, state, "skip", step="pay"))


@pytest.mark.parametrize("verb", ["retry", "resume", "skip", "mark-done"])
def test_a_member_refused_beside_a_parked_one_does_not_turn_the_saga(verb: str) -> None:
    after = wish(SIGNED, parked_beside(NO), verb, step="parcel")
    letter = after.steps[2]
    assert after.status is Status.IN_PROGRESS
    assert (letter.status, letter.generation, letter.attempts) == (StepStatus.PENDING, 1, 0)
    assert letter.due_at == LATER


def test_a_member_given_up_beside_a_parked_one_keeps_its_key() -> None:
    state = parked_beside(Unknown("lost"))
    letter = wish(SIGNED, state, "retry").steps[2]
    assert (letter.status, letter.generation, letter.effect) == (StepStatus.PENDING, 0, Effect.UNKNOWN)


def test_a_member_that_may_be_left_out_is_skipped_when_the_saga_goes_on() -> None:
    state = taken(signed(), 3, 4)
    state = recorded(SIGNED, recorded(SIGNED, state, 3, FORBIDDEN), 4, NO)
    assert (state.status, state.steps[4].status) == (Status.PARKED, StepStatus.FAILED)
    after = wish(SIGNED, state, "retry")
    assert (after.status, after.steps[4].status) == (Status.IN_PROGRESS, StepStatus.SKIPPED)
