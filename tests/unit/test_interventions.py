"""Rule 24: what people may do to a saga in each state, and what they are told when they may not."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from sagas import interventions
from sagas.claims import claimed
from sagas.definition import Call, Retry, SagaDefinition, SagaView, Wait, signal, step
from sagas.errors import NotAllowed
from sagas.interventions import VERBS, Wish
from sagas.state import Decision, Effect, Nothing, SagaState, Status, StepStatus, Transient, Unknown
from tests.deciding import (
    ANN,
    FORBIDDEN,
    LATER,
    LEASE,
    NO,
    NOW,
    OK,
    due_position,
    recorded,
    signalled,
    started,
    taken,
    told,
    wish,
)
from tests.definitions import Chain, Group, Pivot, Waiting, shop

CHAIN, GROUP, PIVOT, WAITING = Chain(), Group(), Pivot(), Waiting()


class Hearing(SagaDefinition, register=False):
    """Waits between two calls."""

    type = "hearing"

    @step
    def first(self, saga: SagaView) -> Call:
        return shop.post("first")

    @step
    def hear(self, saga: SagaView) -> Wait:
        return signal("heard")

    @step
    def last(self, saga: SagaView) -> Call:
        return shop.post("last")


class Hasty(SagaDefinition, register=False):
    """Bounds the time of a step and of its inverse."""

    type = "hasty"

    @step(retry=Retry(attempts=9, total=timedelta(minutes=1)))
    def first(self, saga: SagaView) -> Call:
        return shop.post("first")

    @first.compensation(retry=Retry(attempts=9, total=timedelta(minutes=1)))
    def undo_first(self, saga: SagaView) -> Call:
        return shop.post("undo-first")

    @step
    def second(self, saga: SagaView) -> Call:
        return shop.post("second")


HEARING, HASTY = Hearing(), Hasty()
BUSY = Transient("busy")
STATES: dict[str, Callable[[], SagaState]] = {
    "not started": lambda: started(CHAIN, execute=False),
    "running": lambda: told(CHAIN, OK),
    "in flight": lambda: taken(told(CHAIN, OK)),
    "completed": lambda: told(CHAIN, OK, OK, OK, OK),
    "compensating": lambda: told(CHAIN, OK, OK, NO),
    "undo in flight": lambda: taken(told(CHAIN, OK, OK, NO)),
    "compensated": lambda: told(CHAIN, OK, NO, OK),
    "failed": lambda: told(CHAIN, NO),
    "parked": lambda: told(CHAIN, OK, FORBIDDEN),
    "undo parked": lambda: told(CHAIN, OK, NO, NO),
}

REFUSALS: list[tuple[str, str, dict[str, Any], str]] = [
    ("not started", "retry", {}, "not started yet; use execute"),
    ("not started", "skip", {"step": "first"}, "not started yet; use execute first"),
    ("not started", "mark-done", {"step": "first"}, "not started yet; use execute first"),
    ("not started", "change-deadline", {"deadline": LATER + LEASE}, "not started yet; use execute first"),
    ("completed", "retry", {}, "has completed; there is nothing to retry"),
    ("failed", "compensate", {}, "failed with nothing to undo; use retry"),
    ("undo parked", "compensate", {}, "its compensation is parked; use retry"),
    ("failed", "retry-from", {"step": "first"}, "use retry to run it again"),
    ("compensating", "retry-from", {"step": "first"}, "being undone; let that end"),
    ("running", "retry-from", {"step": "last"}, "has not come to that step yet"),
    ("running", "retry-from", {"step": "nope"}, "chain has no step 'nope'; it has"),
    ("running", "retry-from", {}, "name the step: one of first, second, third, last"),
    ("in flight", "skip", {"step": "second"}, "a worker is on that step; pause the saga"),
    ("running", "skip", {"step": "first"}, "the step is completed already"),
    ("compensating", "skip", {"step": "third"}, "use mark-done to settle a compensation"),
    ("in flight", "mark-done", {"step": "second"}, "a worker is on that step"),
    ("failed", "mark-done", {"step": "second"}, "already|nothing of it can be settled by hand"),
    ("running", "resolve", {"outcome": "completed"}, "only a parked saga can be resolved"),
    ("parked", "resolve", {"outcome": "compensated"}, "outcome is one of completed, failed"),
    ("undo parked", "resolve", {"outcome": "completed"}, "outcome is one of compensated"),
    ("completed", "pause", {}, "completed; there is nothing to pause"),
    ("completed", "change-deadline", {"deadline": LATER}, "no meaning any more"),
    ("running", "change-deadline", {}, "aware datetime"),
    ("running", "change-deadline", {"deadline": datetime(2030, 1, 2)}, "aware datetime"),
    ("running", "change-deadline", {"deadline": NOW}, "lies in the past"),
]

NOTHING: list[tuple[str, str, str]] = [
    ("running", "execute", "the saga was started before"),
    ("completed", "execute", "the saga was started before"),
    ("compensating", "compensate", "is being undone"),
    ("compensated", "compensate", "is undone"),
    ("in flight", "retry", "is being worked on"),
    ("undo in flight", "retry", "is being worked on"),
    ("running", "resume", "neither paused nor parked"),
]


@pytest.mark.parametrize(("state", "verb", "arguments", "message"), REFUSALS)
def test_what_is_not_allowed_says_what_would_be(
    state: str, verb: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(NotAllowed, match=message):
        interventions.intervene(CHAIN, STATES[state](), verb, Wish(**arguments), ANN, LATER)


@pytest.mark.parametrize(("state", "verb", "reason"), NOTHING)
def test_a_wish_that_is_fulfilled_changes_nothing(state: str, verb: str, reason: str) -> None:
    made = interventions.intervene(CHAIN, STATES[state](), verb, Wish(), ANN, LATER)
    assert isinstance(made, Nothing)
    assert reason in made.reason


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_in_every_state_is_decided_refused_or_nothing(state: str, verb: str) -> None:
    before = STATES[state]()
    asked = Wish(step="second", outcome="completed", deadline=LATER + timedelta(hours=1))
    try:
        made = interventions.intervene(CHAIN, before, verb, asked, ANN, LATER)
    except NotAllowed:
        return
    if isinstance(made, Decision) and made.state.status is not before.status:
        assert made.state.epoch > before.epoch


# --- Going on -----------------------------------------------------------------------------------------


def test_execute_starts_what_waited_to_be_started() -> None:
    before = STATES["not started"]()
    after = wish(CHAIN, before, "execute")
    assert (after.steps[0].due_at, after.deadline_at) == (LATER, LATER + CHAIN.deadline)
    assert after.epoch == before.epoch + 1


def test_execute_starts_a_saga_that_was_given_a_deadline_before() -> None:
    before = replace(STATES["not started"](), deadline_at=LATER)
    assert wish(CHAIN, before, "execute").steps[0].due_at == LATER


def test_retry_hurries_a_step_that_waits_for_its_next_attempt() -> None:
    before = told(CHAIN, OK, Transient("busy"))
    after = wish(CHAIN, before, "retry", NOW)
    assert before.steps[1].due_at is not None
    assert before.steps[1].due_at > NOW
    assert (after.steps[1].due_at, after.steps[1].attempts) == (NOW, 1)
    assert after.epoch == before.epoch + 1


@pytest.mark.parametrize("state", ["failed", "compensated"])
def test_rule_11_retry_of_what_is_undone_begins_new_generations(state: str) -> None:
    before = STATES[state]()
    after = wish(CHAIN, before, "retry")
    assert after.status is Status.IN_PROGRESS
    for old, new in zip(before.steps, after.steps, strict=True):
        assert new.generation > old.generation or not old.attempts
    assert all(step.effect is Effect.NONE and step.result is None for step in after.steps)
    assert (after.steps[0].due_at, after.deadline_at) == (LATER, LATER + CHAIN.deadline)


def test_rule_11_retry_of_a_parked_step_keeps_its_key_while_its_effect_is_unknown() -> None:
    after = wish(CHAIN, STATES["parked"](), "retry")
    step = after.steps[1]
    assert (step.generation, step.effect, step.attempts, step.forgiven) == (0, Effect.UNKNOWN, 1, 1)
    assert step.request is not None
    assert step.due_at == LATER


def test_rule_11_retry_of_a_step_refused_behind_the_pivot_takes_a_new_key() -> None:
    parked = told(PIVOT, OK, OK, NO)
    assert parked.status is Status.PARKED
    after = wish(PIVOT, parked, "retry")
    assert (after.steps[2].generation, after.steps[2].attempts) == (1, 0)


def test_rule_12_retry_of_a_refused_compensation_takes_a_new_key() -> None:
    after = wish(CHAIN, STATES["undo parked"](), "retry")
    assert after.status is Status.COMPENSATING
    assert (after.steps[0].undo_generation, after.steps[0].due_at) == (1, LATER)


def test_rule_12_retry_of_a_compensation_given_up_keeps_its_key_and_has_patience_again() -> None:
    given_up = told(CHAIN, OK, NO, *[Unknown("lost")] * 10)
    assert given_up.status is Status.COMPENSATION_FAILED
    step = wish(CHAIN, given_up, "retry").steps[0]
    assert (step.undo_generation, step.undo_attempts - step.undo_forgiven) == (0, 0)


def test_retry_of_a_saga_in_which_a_sibling_failed_meanwhile_turns_it() -> None:
    state = told(GROUP, OK)
    state = taken(state, 1, 2)
    state = recorded(GROUP, recorded(GROUP, state, 1, FORBIDDEN), 2, NO)
    assert state.status is Status.PARKED
    assert wish(GROUP, state, "retry").status is Status.COMPENSATING


def again(state: SagaState) -> SagaState:
    """The first step of the hasty saga, or its inverse, claimed an hour later and not processed."""
    return recorded(HASTY, claimed(state, 0, LATER, LEASE), 0, BUSY, LATER)


def test_the_time_for_a_step_is_counted_from_where_a_person_resumed_it() -> None:
    assert again(told(HASTY, BUSY)).status is Status.FAILED
    resumed = wish(HASTY, told(HASTY, FORBIDDEN), "retry")
    assert again(resumed).status is Status.IN_PROGRESS
    paused = wish(HASTY, wish(HASTY, told(HASTY, BUSY), "pause", NOW), "resume")
    assert again(paused).status is Status.IN_PROGRESS


def test_the_time_for_a_compensation_is_counted_from_where_a_person_resumed_it() -> None:
    assert again(told(HASTY, OK, NO, BUSY)).status is Status.COMPENSATION_FAILED
    resumed = wish(HASTY, told(HASTY, OK, NO, FORBIDDEN), "retry")
    assert again(resumed).status is Status.COMPENSATING
    paused = wish(HASTY, wish(HASTY, told(HASTY, OK, NO, BUSY), "pause", NOW), "resume")
    assert again(paused).status is Status.COMPENSATING


def test_the_start_of_a_step_without_such_a_bound_stays() -> None:
    parked = told(CHAIN, OK, FORBIDDEN)
    assert wish(CHAIN, parked, "retry").steps[1].started_at == NOW


# --- Going back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["not started", "running", "in flight", "completed", "parked"])
def test_compensate_turns_a_saga(state: str) -> None:
    before = STATES[state]()
    after = wish(CHAIN, before, "compensate")
    assert after.status in (Status.COMPENSATING, Status.FAILED)
    assert after.epoch == before.epoch + 1
    assert (after.error or {}) == {"step": "", "code": "compensation_requested", "reason": "because"}


def test_rule_15_nobody_compensates_past_the_pivot() -> None:
    for state in (told(PIVOT, OK, OK), taken(told(PIVOT, OK)), told(PIVOT, OK, OK, OK)):
        for verb in ("compensate", "retry-from"):
            with pytest.raises(NotAllowed, match="past its point of no return"):
                interventions.intervene(PIVOT, state, verb, Wish(step="reserve"), ANN, LATER)


def test_a_completed_saga_without_compensations_stays_as_it_is() -> None:
    class Reading(Chain, register=False):
        type = "reading"

    definition = Reading()
    done = told(CHAIN, OK, OK, OK, OK)
    bare = replace(done, steps=tuple(replace(s, effect=Effect.NONE) for s in done.steps))
    with pytest.raises(NotAllowed, match="none of its steps can be undone"):
        interventions.intervene(definition, bare, "compensate", Wish(), ANN, LATER)


def test_rule_24_retry_from_undoes_that_step_and_those_behind_and_no_others() -> None:
    before = told(CHAIN, OK, OK, OK)
    turned = wish(CHAIN, before, "retry-from", step="second")
    assert (turned.status, turned.retreat_to) == (Status.COMPENSATING, 1)
    state = turned
    for _ in range(2):
        position = due_position(state)
        state = recorded(CHAIN, taken(state), position, OK, LATER)
    assert (state.status, state.retreat_to) == (Status.IN_PROGRESS, None)
    assert [step.generation for step in state.steps[:3]] == [0, 1, 1]
    assert [step.effect for step in state.steps[:2]] == [Effect.DONE, Effect.NONE]
    assert state.steps[1].due_at == LATER


@pytest.mark.parametrize("asked", ["while it is undone", "while its compensation is parked"])
def test_a_saga_that_is_cancelled_while_it_goes_back_to_a_step_goes_back_all_the_way(asked: str) -> None:
    state = wish(CHAIN, told(CHAIN, OK, OK), "retry-from", step="second")
    if asked == "while its compensation is parked":
        parked = told(CHAIN, NO, state=state)
        assert parked.status is Status.COMPENSATION_FAILED
        state = wish(CHAIN, parked, "compensate")
        assert state.status is Status.COMPENSATION_FAILED
        state = wish(CHAIN, state, "retry")
    else:
        state = wish(CHAIN, state, "compensate")
    assert (state.error or {})["code"] == "compensation_requested"
    assert told(CHAIN, OK, OK, state=state).status is Status.COMPENSATED


# --- By hand ------------------------------------------------------------------------------------------


def test_skip_goes_on_with_the_output_that_is_given() -> None:
    after = wish(CHAIN, STATES["parked"](), "skip", step="second", data={"id": 9})
    assert after.status is Status.IN_PROGRESS
    assert (after.steps[1].status, after.steps[1].result) == (StepStatus.SKIPPED, {"id": 9})
    assert after.steps[2].due_at == LATER


def test_rule_10_a_skipped_step_that_may_have_happened_is_undone_later() -> None:
    skipped = wish(CHAIN, STATES["parked"](), "skip", step="second")
    assert skipped.steps[1].sequence is not None
    turned = wish(CHAIN, skipped, "compensate")
    assert turned.steps[1].due_at is not None


@pytest.mark.parametrize("undo", [True, False])
def test_rule_24_what_was_done_by_hand_is_undone_only_if_that_was_asked_for(undo: bool) -> None:
    parked = STATES["parked"]()
    done = wish(CHAIN, parked, "mark-done", step="second", data={"id": 9}, undo=undo)
    assert (done.steps[1].status, done.steps[1].result) == (StepStatus.COMPLETED, {"id": 9})
    turned = wish(CHAIN, done, "compensate")
    assert (turned.steps[1].due_at is not None) is undo


def test_a_compensation_done_by_hand_lets_the_others_go_on() -> None:
    state = told(CHAIN, OK, OK, NO, NO)
    assert state.status is Status.COMPENSATION_FAILED
    after = wish(CHAIN, state, "mark-done", step="second")
    assert after.status is Status.COMPENSATING
    assert (after.steps[1].effect, after.steps[0].due_at) == (Effect.UNDONE, LATER)


def test_resolve_ends_a_parked_saga_and_settles_every_step() -> None:
    after = wish(CHAIN, STATES["parked"](), "resolve", outcome="completed")
    assert (after.status, after.finished_at) == (Status.COMPLETED, LATER)
    assert all(step.due_at is None for step in after.steps)
    assert StepStatus.PENDING not in {step.status for step in after.steps}


# --- Pausing and deadlines ----------------------------------------------------------------------------


def test_rule_20_a_pause_is_added_to_the_deadline() -> None:
    before = STATES["running"]()
    paused = wish(CHAIN, before, "pause", NOW)
    assert paused.paused_at == NOW
    resumed = wish(CHAIN, paused, "resume", LATER)
    assert resumed.paused_at is None
    assert resumed.deadline_at is not None
    assert before.deadline_at is not None
    assert resumed.deadline_at - before.deadline_at == LATER - NOW
    assert resumed.steps[1].due_at == LATER


@pytest.mark.parametrize("answered", ["during", "after"])
@pytest.mark.parametrize("paused", ["before it waits", "while it waits"])
def test_an_hour_that_a_saga_waits_and_is_paused_is_added_to_the_deadline_once(
    paused: str, answered: str
) -> None:
    hour, end = timedelta(hours=1), LATER + timedelta(hours=1)
    if paused == "while it waits":
        state = wish(HEARING, told(HEARING, OK), "pause", NOW)
    else:
        state = recorded(HEARING, wish(HEARING, taken(started(HEARING)), "pause", NOW), 0, OK, LATER)
    assert state.status is Status.WAITING
    if answered == "during":
        state = wish(HEARING, signalled(HEARING, state, "heard", at=LATER), "resume", end)
    else:
        state = signalled(HEARING, wish(HEARING, state, "resume", LATER), "heard", at=end)
    assert (state.status, state.deadline_at) == (Status.IN_PROGRESS, NOW + HEARING.deadline + 2 * hour)


def test_resume_lets_a_parked_saga_go_on() -> None:
    assert wish(CHAIN, STATES["parked"](), "resume").status is Status.IN_PROGRESS


def test_a_saga_that_ends_while_it_is_paused_is_not_paused_any_more() -> None:
    flying = taken(told(CHAIN, OK, OK, OK))
    paused = wish(CHAIN, flying, "pause", NOW)
    ended = recorded(CHAIN, paused, 3, OK)
    assert (ended.status, ended.paused_at) == (Status.COMPLETED, None)


def test_a_deadline_can_be_moved() -> None:
    moved = LATER + timedelta(days=1)
    assert wish(CHAIN, STATES["running"](), "change-deadline", deadline=moved).deadline_at == moved


def test_a_saga_that_waits_is_not_retried_but_told_what_it_waits_for() -> None:
    waiting = told(WAITING, OK)
    assert waiting.status is Status.WAITING
    with pytest.raises(NotAllowed, match="waits for the outside; send what it waits for, or skip"):
        interventions.intervene(WAITING, waiting, "retry", Wish(), ANN, LATER)
    skipped = wish(WAITING, waiting, "skip", step="paid", data={"amount": 1})
    assert skipped.status is Status.WAITING
    done = wish(WAITING, skipped, "mark-done", step="checked", data={"approved": True})
    assert done.steps[3].status is StepStatus.WAITING


def test_every_verb_says_what_it_does_and_who_may() -> None:
    for verb in VERBS.values():
        assert verb.help.endswith(".") or len(verb.help) > 10
        assert verb.permission in {"start_saga", "retry_saga", "compensate_saga", "steer_saga"}
