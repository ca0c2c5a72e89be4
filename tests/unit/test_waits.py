"""Rules 17 and 20: waits stand still with their saga, and words that come early are kept."""

from datetime import datetime, timedelta

import pytest

from sagas.claims import claimed
from sagas.definition import Call, SagaDefinition, SagaView, Wait, parallel, signal, sleep
from sagas.state import (
    Accepted,
    Deferred,
    Done,
    Effect,
    LeaseExpired,
    Nothing,
    Outcome,
    Recorded,
    Refused,
    Resolved,
    SagaState,
    Status,
    StepStatus,
    Transient,
    Unknown,
    WaitOver,
)
from sagas.transitions import ACCEPTED_FOR, decide
from tests.deciding import (
    FORBIDDEN,
    LEASE,
    NO,
    NOW,
    OK,
    due_position,
    happened,
    recorded,
    started,
    taken,
    told,
    wish,
)
from tests.definitions import Chain, Parent, shop

CHAIN = Chain()
HOUR = timedelta(hours=1)
SLOW = Accepted("callback")
WORD = Done({"id": 5})


class Patient(SagaDefinition, register=False):
    """Waits an hour for a word, or two for nothing, beside a call."""

    type = "patient"

    all = parallel("all")

    @all.step
    def hear(self, saga: SagaView) -> Wait:
        return signal("heard", timeout=HOUR)

    @all.step
    def rest(self, saga: SagaView) -> Wait:
        return sleep(2 * HOUR)

    @all.step
    def call(self, saga: SagaView) -> Call:
        return shop.post("call")


PATIENT, PARENT = Patient(), Parent()


def until(state: SagaState, position: int) -> datetime:
    return datetime.fromisoformat((state.steps[position].wait or {})["until"])


# --- Standing still -----------------------------------------------------------------------------------


def test_rule_20_a_pause_is_added_to_a_wait_and_to_no_timer() -> None:
    state = wish(PATIENT, started(PATIENT), "pause", NOW + HOUR / 2)
    late = NOW + 5 * HOUR
    assert isinstance(decide(PATIENT, state, WaitOver(0), late), Nothing)
    state = wish(PATIENT, state, "resume", late)
    assert (until(state, 0), until(state, 1)) == (late + HOUR / 2, NOW + 2 * HOUR)
    assert isinstance(decide(PATIENT, state, WaitOver(0), late), Nothing)
    assert happened(PATIENT, state, WaitOver(0), late + HOUR / 2).steps[0].status is StepStatus.FAILED


def test_rule_20_a_wait_begins_anew_when_a_parked_saga_goes_on() -> None:
    state = recorded(PATIENT, taken(started(PATIENT), 2), 2, FORBIDDEN)
    late = NOW + 5 * HOUR
    assert state.status is Status.PARKED
    assert isinstance(decide(PATIENT, state, WaitOver(0), late), Nothing)
    state = wish(PATIENT, state, "resume", late)
    assert until(state, 0) == late + HOUR
    assert isinstance(decide(PATIENT, state, WaitOver(0), late), Nothing)


def test_a_wait_that_begins_anew_is_as_long_as_it_was_however_often() -> None:
    state = recorded(PATIENT, taken(started(PATIENT), 2), 2, FORBIDDEN)
    late = NOW
    for _ in range(3):
        late += 5 * HOUR
        state = wish(PATIENT, state, "resume", late)
        assert until(state, 0) == late + HOUR
        state = recorded(PATIENT, taken(state, 2), 2, FORBIDDEN)


# --- Words that overtake the answer -------------------------------------------------------------------


def heard(word: Done | Refused) -> SagaState:
    """A saga whose participant has called back before its answer was recorded, and once more."""
    state = taken(started(CHAIN))
    for _ in range(2):
        state = happened(CHAIN, state, Resolved(0, 0, word))
    return state


@pytest.mark.parametrize(
    "answer", [SLOW, Unknown("lost"), Transient("busy"), Deferred("held", HOUR)], ids=str
)
def test_rule_17_a_word_that_comes_before_the_answer_is_kept(answer: Outcome) -> None:
    state = recorded(CHAIN, heard(WORD), 0, answer)
    assert (state.steps[0].status, state.steps[0].result) == (StepStatus.COMPLETED, {"id": 5})
    assert state.steps[1].due_at is not None


def test_rule_17_a_refusal_that_comes_before_the_answer_is_kept() -> None:
    state = recorded(CHAIN, heard(NO), 0, SLOW)
    assert (state.status, state.steps[0].effect) == (Status.FAILED, Effect.NONE)


def test_an_answer_counts_more_than_a_word() -> None:
    assert recorded(CHAIN, heard(WORD), 0, OK).steps[0].result == OK.result


def test_rule_17_a_word_outlives_the_worker_that_would_have_recorded_the_answer() -> None:
    state = happened(CHAIN, heard(WORD), LeaseExpired(0), NOW + LEASE)
    assert (state.steps[0].status, state.steps[0].result) == (StepStatus.COMPLETED, {"id": 5})


def test_rule_17_a_word_for_another_generation_is_nothing() -> None:
    assert isinstance(decide(CHAIN, taken(started(CHAIN)), Resolved(0, 1, WORD), NOW), Nothing)


def test_a_word_that_comes_while_the_saga_turns_is_undone() -> None:
    flying = taken(told(CHAIN, OK))
    turned = wish(CHAIN, happened(CHAIN, flying, Resolved(1, 0, WORD)), "compensate")
    state = happened(CHAIN, turned, Recorded(1, False, 0, 1, SLOW))
    assert (state.steps[1].effect, state.steps[1].due_at is not None) == (Effect.DONE, True)


# --- Compensations that are accepted and do not end -----------------------------------------------------


def undone_later(state: SagaState) -> tuple[SagaState, datetime]:
    """The saga when its compensation was due, and has been accepted once more; and the time then."""
    position = due_position(state)
    at = state.steps[position].due_at or NOW
    return recorded(CHAIN, claimed(state, position, at, LEASE), position, SLOW, at), at


def test_a_compensation_that_is_accepted_for_ever_calls_a_person() -> None:
    state, at = undone_later(told(CHAIN, OK, NO))
    began = at
    while state.status is Status.COMPENSATING:
        state, at = undone_later(state)
        assert at < began + 2 * ACCEPTED_FOR
    assert at >= began + ACCEPTED_FOR
    assert state.status is Status.COMPENSATION_FAILED
    assert (state.steps[0].undo_error or {})["code"] == "undo_unfinished"
    again, _ = undone_later(wish(CHAIN, state, "retry", at + HOUR))
    assert again.status is Status.COMPENSATING


def test_the_undoing_of_a_child_is_looked_at_soon_and_then_less_often() -> None:
    state, looks = told(PARENT, OK, Accepted("child")), []
    state = wish(PARENT, state, "compensate", NOW)
    for _ in range(10):
        at = state.steps[1].due_at or NOW
        state = recorded(PARENT, claimed(state, 1, at, LEASE), 1, Accepted("child"), at)
        looks.append(((state.steps[1].due_at or NOW) - at).total_seconds())
    assert looks == [0.5, 1, 2, 4, 8, 16, 32, 32, 32, 32]
