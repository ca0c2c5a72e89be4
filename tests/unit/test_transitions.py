"""The rules as single decisions; the stories of whole sagas are in `test_scenarios.py`."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from sagas.claims import claimable, claimed, wake_at
from sagas.definition import Call, Fallback, Retry, SagaDefinition, SagaView, step
from sagas.draft import Draft
from sagas.facts import idempotency_key
from sagas.state import (
    ACTIVE,
    FINISHED,
    NEEDS_PERSON,
    SAGA_EDGES,
    Decision,
    Deferred,
    Done,
    Effect,
    Entry,
    Event,
    IllegalTransition,
    LeaseExpired,
    Nothing,
    Outcome,
    Overdue,
    Recorded,
    Refused,
    Rung,
    SagaState,
    Status,
    StepStatus,
    Transient,
    Unknown,
)
from sagas.transitions import begin, decide
from tests.definitions import Chain, Group, Pivot, Skipping, shop

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
LEASE = timedelta(seconds=40)
RING = timedelta(seconds=15)
OK = Done({"id": 1})
NO = Refused("no", "no")
BUSY = Transient("busy")
LOST = Unknown("lost")
CHAIN, GROUP, PIVOT = Chain(), Group(), Pivot()


def seconds(number: float) -> timedelta:
    """So many seconds."""
    return timedelta(seconds=number)


def started(definition: SagaDefinition = CHAIN) -> SagaState:
    """A saga that has just begun."""
    return begin(definition, UUID(int=7), {}, "c", NOW, entry=Entry("saga_started")).state


def decided(definition: SagaDefinition, state: SagaState, event: Event, at: datetime = NOW) -> SagaState:
    """The state after an event that must lead to a decision; the same event decides the same twice."""
    made = decide(definition, state, event, at)
    assert isinstance(made, Decision), made
    assert made == decide(definition, state, event, at)
    assert (made.guard, made.state.rev) == (state.rev, state.rev + 1)
    return made.state


def recorded(
    definition: SagaDefinition, state: SagaState, position: int, outcome: Outcome, at: datetime = NOW
) -> SagaState:
    """The state after a claimed step's outcome was recorded."""
    known = state.steps[position]
    attempt, generation = (
        (known.undo_attempts, known.undo_generation) if known.undoing else (known.attempts, known.generation)
    )
    return decided(definition, state, Recorded(position, known.undoing, generation, attempt, outcome), at)


def told(definition: SagaDefinition, *outcomes: Outcome, state: SagaState | None = None) -> SagaState:
    """The saga after its calls, in their order, have gone like this, however long they had to wait."""
    state = state or started(definition)
    for outcome in outcomes:
        position = next(s.position for s in state.steps if s.due_at is not None)
        at = state.steps[position].due_at or NOW
        state = recorded(definition, claimed(state, position, at, LEASE), position, outcome, at)
    return state


# --- Statuses -----------------------------------------------------------------------------------------


def test_every_status_stands_in_the_table_of_edges() -> None:
    assert set(SAGA_EDGES) == set(Status)
    assert set(Status) == ACTIVE | FINISHED | NEEDS_PERSON | {Status.WAITING}


def test_a_finished_saga_is_left_by_people_only_and_no_status_leads_to_pending() -> None:
    assert SAGA_EDGES[Status.COMPLETED] == {Status.COMPENSATING}
    assert SAGA_EDGES[Status.COMPENSATED] == SAGA_EDGES[Status.FAILED] == {Status.IN_PROGRESS}
    assert not any(Status.PENDING in ends for ends in SAGA_EDGES.values())


def test_a_decision_off_the_table_is_refused() -> None:
    draft = Draft(CHAIN, started(), NOW)
    with pytest.raises(IllegalTransition, match="pending to compensated"):
        draft.update(status=Status.COMPENSATED)


def test_a_finished_saga_has_no_use_for_events() -> None:
    ended = told(CHAIN, OK, OK, OK, OK)
    late = Recorded(0, False, 0, 1, NO)
    for event in (late, LeaseExpired(0), Overdue()):
        assert isinstance(decide(CHAIN, ended, event, NOW), Nothing)


# --- Claims -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "epoch", "position", "at", "allowed"),
    [
        ({}, 0, 0, NOW, True),
        ({}, 1, 0, NOW, False),
        ({}, 0, 1, NOW, False),
        ({}, 0, 0, NOW - seconds(1), False),
        ({"paused_at": NOW}, 0, 0, NOW, False),
        ({"status": Status.PARKED}, 0, 0, NOW, False),
        ({"status": Status.COMPENSATING}, 0, 0, NOW, True),
    ],
)
def test_rule_4_what_may_be_claimed(
    changes: dict[str, Any], epoch: int, position: int, at: datetime, allowed: bool
) -> None:
    assert claimable(replace(started(), **changes), position, epoch, at) is allowed


def test_rule_4_a_claim_spends_an_attempt_and_sets_the_lease() -> None:
    after = claimed(started(), 0, NOW, LEASE)
    known = after.steps[0]
    assert (known.status, known.attempts, known.lease_until) == (StepStatus.IN_PROGRESS, 1, NOW + LEASE)
    assert (known.due_at, after.status, after.started_at) == (None, Status.IN_PROGRESS, NOW)
    undo = claimed(told(CHAIN, OK, NO), 0, NOW, LEASE).steps[0]
    assert (undo.status, undo.undo_attempts, undo.attempts) == (StepStatus.COMPENSATING, 1, 1)


# --- Records ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        Recorded(0, False, 0, 2, OK),
        Recorded(0, False, 1, 1, OK),
        Recorded(0, True, 0, 1, OK),
        Recorded(1, False, 0, 0, OK),
    ],
)
def test_rule_6_a_record_of_another_attempt_generation_or_direction_is_nothing(event: Recorded) -> None:
    assert isinstance(decide(CHAIN, claimed(started(), 0, NOW, LEASE), event, NOW), Nothing)


def test_rule_6_an_attempt_whose_lease_was_given_up_is_stale() -> None:
    taken = claimed(started(), 0, NOW, LEASE)
    given_up = decided(CHAIN, taken, LeaseExpired(0), NOW + LEASE)
    assert isinstance(decide(CHAIN, given_up, Recorded(0, False, 0, 1, OK), NOW), Nothing)


def test_a_lease_is_not_given_up_before_its_time() -> None:
    taken = claimed(started(), 0, NOW, LEASE)
    assert isinstance(decide(CHAIN, taken, LeaseExpired(0), NOW + LEASE - seconds(1)), Nothing)


# --- Retries ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outcome", "effect"), [(BUSY, Effect.NONE), (LOST, Effect.UNKNOWN)])
def test_rule_8_a_step_is_due_again_after_2_and_then_4_seconds(outcome: Outcome, effect: Effect) -> None:
    once = told(CHAIN, outcome)
    first = once.steps[0]
    assert (first.status, first.effect) == (StepStatus.PENDING, effect)
    assert first.due_at is not None
    assert seconds(1.8) <= first.due_at - NOW <= seconds(2.2)
    again = told(CHAIN, outcome, state=once).steps[0]
    assert again.due_at is not None
    assert seconds(3.6) <= again.due_at - first.due_at <= seconds(4.4)


@pytest.mark.parametrize(("asked", "least", "most"), [(60, 60, 60), (0, 1.8, 2.2), (None, 1.8, 2.2)])
def test_rule_8_retry_after_lengthens_a_pause_and_never_shortens_it(
    asked: float | None, least: float, most: float
) -> None:
    wait = None if asked is None else seconds(asked)
    due_at = told(CHAIN, Transient("busy", wait)).steps[0].due_at
    assert due_at is not None
    assert seconds(least) <= due_at - NOW <= seconds(most)


def test_rule_10_what_was_once_unknown_stays_unknown_after_a_transient_failure() -> None:
    assert told(CHAIN, LOST, BUSY).steps[0].effect is Effect.UNKNOWN
    assert told(CHAIN, LOST, BUSY, BUSY).status is Status.COMPENSATING


def test_rule_10_a_refusal_under_the_same_key_settles_what_was_unknown() -> None:
    assert told(CHAIN, LOST, NO).status is Status.FAILED


def test_rule_11_attempts_share_key_and_request() -> None:
    first, again = started(), told(CHAIN, LOST)
    assert again.steps[0].request == first.steps[0].request
    key = f"{UUID(int=7)}:first:action:0"
    assert idempotency_key(first.id, first.steps[0], backward=False) == key
    assert idempotency_key(again.id, again.steps[0], backward=False) == key
    assert idempotency_key(again.id, again.steps[0], backward=True) == f"{UUID(int=7)}:first:compensation:0"


def one_step(fallback: Fallback = Fallback.COMPENSATE, **options: Any) -> SagaDefinition:
    """A saga of one step with a retry policy of its own."""

    class One(SagaDefinition, register=False):
        type = "one"

        @step(retry=Retry(**options), fallback=fallback)
        def only(self, saga: SagaView) -> Call:
            return shop.post("only")

    return One()


def test_retries_can_be_limited_to_one_kind_of_failure() -> None:
    policy = one_step(on=frozenset({"transient"}))
    assert told(policy, BUSY).status is Status.IN_PROGRESS
    assert told(policy, LOST).status is Status.FAILED


def test_retries_can_be_bounded_by_a_total_time() -> None:
    patient = one_step(attempts=100, jitter=0.0, total=seconds(5))
    assert told(patient, BUSY, BUSY).status is Status.IN_PROGRESS
    assert told(patient, BUSY, BUSY, BUSY).status is Status.FAILED


def test_a_total_time_bounds_a_step_that_is_only_held_back() -> None:
    held = Deferred("at its limit", seconds(4))
    assert told(one_step(total=seconds(5)), held, held).status is Status.IN_PROGRESS
    ended = told(one_step(total=seconds(5)), held, held, held)
    assert (ended.status, (ended.error or {})["code"]) == (Status.FAILED, "retries_exhausted")
    later = told(one_step(Fallback.RETRY_LATER, total=seconds(5)), held, held, held, held)
    assert later.status is Status.IN_PROGRESS


# --- Order --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_rule_13_members_of_a_group_are_undone_in_reverse_order_of_their_completion(
    order: tuple[int, int],
) -> None:
    state = told(GROUP, OK)
    for position in (1, 2):
        state = claimed(state, position, NOW, LEASE)
    for position in order:
        state = recorded(GROUP, state, position, OK)
    state = told(GROUP, NO, state=state)
    undone = []
    while state.status is Status.COMPENSATING:
        undone += [s.position for s in state.steps if s.due_at is not None]
        state = told(GROUP, OK, state=state)
    assert undone == [*reversed(order), 0]


def test_rule_13_nothing_is_undone_while_a_sibling_is_in_flight() -> None:
    state = told(GROUP, OK)
    for position in (1, 2):
        state = claimed(state, position, NOW, LEASE)
    turned = recorded(GROUP, state, 1, NO)
    assert turned.status is Status.COMPENSATING
    assert not [s for s in turned.steps if s.due_at is not None]
    settled = recorded(GROUP, turned, 2, OK)
    assert [s.position for s in settled.steps if s.due_at is not None] == [2]


def test_rule_14_the_last_member_alone_makes_the_join_due() -> None:
    state = told(GROUP, OK)
    for position in (1, 2):
        state = claimed(state, position, NOW, LEASE)
    one = recorded(GROUP, state, 2, OK)
    assert one.steps[3].due_at is None
    assert recorded(GROUP, one, 1, OK).steps[3].due_at == NOW


def test_rule_16_a_saga_that_ends_has_settled_every_step() -> None:
    ended = told(CHAIN, OK, NO, OK)
    assert (ended.status, ended.finished_at) == (Status.COMPENSATED, NOW)
    assert [s.status for s in ended.steps] == [
        StepStatus.COMPENSATED,
        StepStatus.FAILED,
        StepStatus.SKIPPED,
        StepStatus.SKIPPED,
    ]


def test_a_skipped_step_says_why() -> None:
    state = told(Skipping(), OK)
    assert (state.steps[1].error or {})["reason"] == "its condition did not hold"


# --- Time ---------------------------------------------------------------------------------------------


def test_rule_7_a_due_step_is_rung_for_again_with_more_and_more_patience() -> None:
    state = started()
    later = NOW + timedelta(hours=5)
    assert wake_at(state, RING, NOW) == NOW + RING
    assert wake_at(replace(state, rings=2), RING, NOW) == NOW + 4 * RING
    assert wake_at(replace(state, rings=60), RING, NOW) == NOW + 64 * RING
    assert wake_at(state, RING, later) == later + RING


@pytest.mark.parametrize(("due_in", "patience"), [(seconds(50), RING), (seconds(3600), seconds(0))])
def test_rule_7_a_step_that_is_due_later_is_rung_for_then_unless_a_message_waits(
    due_in: timedelta, patience: timedelta
) -> None:
    state = told(CHAIN, Transient("busy", due_in))
    assert wake_at(state, RING, NOW) == NOW + due_in + patience


def test_rule_7_a_claimed_step_is_looked_at_when_its_lease_ends() -> None:
    assert wake_at(claimed(started(), 0, NOW, LEASE), RING, NOW) == NOW + LEASE


@pytest.mark.parametrize("state", [told(CHAIN, OK, OK, OK, OK), told(CHAIN, NO)])
def test_rule_7_nothing_wakes_what_has_ended(state: SagaState) -> None:
    assert wake_at(state, RING, NOW) is None


def test_rule_7_nothing_wakes_what_is_paused() -> None:
    assert wake_at(replace(started(), paused_at=NOW), RING, NOW) is None


def test_rule_19_ringing_changes_neither_epoch_nor_steps() -> None:
    before = started()
    after = decided(CHAIN, before, Rung())
    assert (after.epoch, after.steps, after.rings) == (before.epoch, before.steps, 1)


def test_rule_20_an_extension_retries_the_current_step_at_once() -> None:
    waiting = told(CHAIN, Transient("busy", timedelta(hours=1)))
    deadline = waiting.deadline_at
    assert deadline is not None
    extended = decided(CHAIN, waiting, Overdue(), deadline)
    assert (extended.extensions, extended.steps[0].due_at) == (1, deadline)
    assert extended.deadline_at == deadline + CHAIN.deadline


def test_rule_15_past_the_pivot_a_deadline_is_extended_without_end() -> None:
    state = claimed(told(PIVOT, OK), 1, NOW, LEASE)
    for number in range(1, 6):
        at = state.deadline_at or NOW
        state = decided(PIVOT, state, Overdue(), at)
        assert (state.extensions, state.status) == (number, Status.IN_PROGRESS)


def test_rule_20_a_deadline_that_has_not_passed_changes_nothing() -> None:
    assert isinstance(decide(CHAIN, started(), Overdue(), NOW), Nothing)
