"""Stories about sagas of every shape, each with the rule that it shows."""

from datetime import timedelta
from typing import Any

import pytest

from sagas.definition import Call, Fallback, Retry, SagaDefinition, SagaView, step
from sagas.errors import DefinitionError
from sagas.state import Effect, StepStatus
from sagas.testing import (
    ALWAYS,
    BrokenInvariant,
    Scenario,
    accepted,
    forbidden,
    given,
    held_back,
    late,
    lost_answer,
    refused,
    transient,
    unknown,
    worker_lost,
)
from tests.definitions import Chain, Group, Parent, Pivot, Skipping, Waiting, shop

pytestmark = pytest.mark.usefixtures("mode")
UNDONE = ("undo-second", "undo-first")


def test_all_goes_well() -> None:
    ended = given(Chain).answering("first", id=7).expect().ends("completed", result={"id": 7})
    assert ended.calls == ("first", "second", "third", "last")
    assert ended.took == timedelta(0)


def test_rule_8_a_refusal_undoes_what_was_done_in_reverse() -> None:
    ended = given(Chain).when("third", refused("too dear", "price")).expect(*UNDONE).ends("compensated")
    assert ended.state.error == {"step": "third", "code": "price", "reason": "too dear"}
    assert ended.calls == ("first", "second", "third", *UNDONE)


def test_rule_10_a_refusal_of_the_first_step_leaves_nothing_to_undo() -> None:
    given(Chain).when("first", refused("no")).expect().ends("failed", code="refused")


def test_rule_8_a_transient_failure_is_tried_again_after_2_and_4_seconds() -> None:
    ended = given(Chain).when("second", transient(times=2)).expect().ends("completed")
    assert ended.calls.count("second") == 3
    assert timedelta(seconds=5.4) < ended.took < timedelta(seconds=6.6)


def test_rule_8_retry_after_is_honoured() -> None:
    ended = given(Chain).when("second", transient(retry_after=timedelta(minutes=2))).ends("completed")
    assert ended.took == timedelta(minutes=2)


def test_rule_8_a_participant_that_stays_busy_has_the_step_given_up() -> None:
    ended = given(Chain).when("third", transient(times=ALWAYS)).expect(*UNDONE).ends("compensated")
    assert ended.calls.count("third") == 3
    assert (ended.state.error or {})["code"] == "retries_exhausted"


def test_rule_9_an_unknown_outcome_is_repeated_under_the_same_key() -> None:
    ended = given(Chain).when("second", lost_answer(times=2)).expect().ends("completed")
    assert ended.step("second").generation == 0


def test_rule_10_answers_lost_three_times_are_undone_though_no_success_was_seen() -> None:
    ended = given(Chain).when("third", lost_answer(times=3)).expect("undo-third", *UNDONE).ends("compensated")
    assert ended.step("third").effect is Effect.UNDONE


def test_rule_22_a_compensation_that_comes_first_keeps_the_late_action_out() -> None:
    ended = given(Chain).when("third", late(times=3)).expect(*UNDONE).ends("compensated")
    assert "undo-third" in ended.calls
    assert ended.took > timedelta(days=1)


def test_rule_8_a_forbidden_call_parks_and_undoes_nothing() -> None:
    given(Chain).when("second", forbidden()).expect().ends("parked", code="http_401")


def test_rule_12_a_compensation_is_more_patient_than_a_step() -> None:
    ended = (
        given(Chain)
        .when("third", refused("no"))
        .when("undo-second", unknown(times=9))
        .expect(*UNDONE)
        .ends("compensated")
    )
    assert ended.calls.count("undo-second") == 10


def test_rule_12_a_compensation_that_stays_impossible_is_parked_and_says_what_is_left() -> None:
    ended = (
        given(Chain)
        .when("third", refused("no"))
        .when("undo-second", transient(times=ALWAYS))
        .expect()
        .ends("compensation_failed")
    )
    assert ended.step("second").status is StepStatus.COMPENSATION_FAILED
    assert ended.step("first").effect is Effect.DONE


def test_rule_12_a_refused_compensation_is_parked_at_once() -> None:
    ended = (
        given(Chain)
        .when("third", refused("no"))
        .when("undo-second", refused("gone"))
        .ends("compensation_failed")
    )
    assert ended.calls.count("undo-second") == 1


@pytest.mark.parametrize("after", [True, False])
def test_rule_9_a_lost_workers_step_is_asked_about_and_goes_on(after: bool) -> None:
    ended = given(Chain).when("second", worker_lost(after_the_call=after)).expect().ends("completed")
    assert ended.step("second").crashes == 1
    assert ended.calls.count("second") == (1 if after else 2)


def test_rule_5_a_step_that_keeps_killing_its_worker_is_parked() -> None:
    happening = worker_lost(times=ALWAYS, after_the_call=False)
    ended = given(Chain).when("second", happening).expect().ends("parked", code="worker_lost")
    assert ended.step("second").crashes == 5


def test_rule_5_a_call_that_is_held_back_spends_no_attempt() -> None:
    ended = given(Chain).when("second", held_back(times=20)).expect().ends("completed")
    assert ended.step("second").attempts - ended.step("second").forgiven == 1


def test_rule_5_an_open_circuit_skips_a_step_that_may_be_skipped() -> None:
    ended = given(Skipping).when("nice-to-have", held_back(circuit_open=True)).expect().ends("completed")
    assert ended.step("nice-to-have").status is StepStatus.SKIPPED


def test_rule_6_a_step_in_flight_when_the_saga_is_cancelled_is_recorded_and_undone() -> None:
    given(Chain).cancelled_during("second").expect(*UNDONE).ends("compensated", code="compensation_requested")


def test_rule_20_a_timeout_turns_the_saga_once_its_extensions_are_used_up() -> None:
    ended = given(Chain).timed_out_during("second").expect(*UNDONE).ends("compensated", code="timeout")
    assert ended.state.extensions == 1


def test_rule_13_a_failed_member_of_a_group_lets_its_sibling_settle_first() -> None:
    ended = given(Group).when("left", refused("no")).expect("undo-right", "undo-before").ends("compensated")
    assert ended.calls.index("right") < ended.calls.index("undo-right")


def test_rule_14_the_join_reads_the_results_of_all_members() -> None:
    ended = given(Group).answering("left", id=1).answering("right", id=2).ends("completed")
    assert (ended.step("join").request or {})["body"] == '{"left":1,"right":2}'


def test_rule_15_nothing_turns_a_saga_back_from_the_claim_of_its_pivot_on() -> None:
    given(Pivot).timed_out_during("pay").expect().ends("completed")
    given(Pivot).cancelled_during("ship").expect().ends("completed")


def test_rule_15_a_refused_pivot_can_be_undone() -> None:
    given(Pivot).when("pay", refused("no money")).expect("release").ends("compensated")


def test_rule_15_an_unknown_pivot_is_never_given_up() -> None:
    given(Pivot).when("pay", unknown(times=ALWAYS)).expect().ends("parked", code="outcome_unknown")


def test_rule_15_a_step_behind_the_pivot_that_fails_is_parked() -> None:
    given(Pivot).when("ship", refused("no truck")).expect().ends("parked")


def test_a_condition_that_does_not_hold_skips_the_step_and_its_compensation() -> None:
    ended = given(Skipping).when("needed", refused("no")).expect("undo-nice-to-have").ends("compensated")
    assert "never" not in ended.calls
    assert ended.step("never").status is StepStatus.SKIPPED
    assert ended.step("local").result == {"answer": 42}


def test_rule_10_a_step_skipped_by_its_fallback_is_undone_if_it_may_have_happened() -> None:
    ended = (
        given(Skipping)
        .when("nice-to-have", lost_answer(times=3))
        .when("needed", refused("no"))
        .expect("undo-nice-to-have")
        .ends("compensated")
    )
    assert ended.step("nice-to-have").effect is Effect.UNDONE


def test_a_fallback_that_retries_later_never_gives_up() -> None:
    ended = family().when("patient", transient(times=20)).expect().ends("completed")
    assert ended.calls.count("patient") == 21


def family() -> Scenario:
    """A saga that starts a child."""
    return given(Parent).with_child(Chain)


class PaidAtOnce(SagaDefinition, register=False):
    """Gives up after its first failure."""

    type = "paid_at_once"

    @step(retry=Retry(attempts=1), fallback=Fallback.COMPENSATE)
    def pay(self, saga: SagaView) -> Call:
        return shop.post("pay")


def test_a_policy_of_one_attempt_does_not_repeat() -> None:
    ended = given(PaidAtOnce).when("pay", transient()).ends("failed")
    assert ended.calls == ("pay",)


def waiting() -> Any:
    """A saga whose signal and approval come."""
    return given(Waiting).signalled("paid", {"amount": 3}).approved()


def test_rule_17_signals_approvals_times_and_callbacks_are_waited_for() -> None:
    ended = waiting().when("produce", accepted()).expect().ends("completed")
    assert ended.step("paid").result == {"amount": 3}
    assert timedelta(days=1) < ended.took < timedelta(days=1, minutes=2)


def test_rule_17_a_participant_that_does_not_call_back_is_asked() -> None:
    ended = waiting().when("produce", accepted(calls_back=False)).expect().ends("completed")
    assert ended.took < timedelta(days=1, minutes=5)


def test_rule_17_a_signal_that_does_not_come_in_time_turns_the_saga() -> None:
    given(Waiting).approved().expect("cancel-order").ends("compensated", code="wait_timeout")


def test_rule_17_an_approval_that_is_denied_turns_the_saga() -> None:
    story = given(Waiting).signalled("paid").approved(by_saying=False, reason="no")
    story.expect("cancel-order").ends("compensated", code="rejected")


def test_a_saga_that_waits_for_its_signal_alone_stays_waiting() -> None:
    class WaitsForEver(Waiting, register=False):
        type = "waits_for_ever"

    ended = given(WaitsForEver).signalled("paid").ends("waiting")
    assert ended.step("checked").status is StepStatus.WAITING


def test_rule_18_undoing_a_parent_undoes_its_child() -> None:
    undone = ("child/undo-third", "child/undo-second", "child/undo-first", "undo-begin")
    ended = family().when("patient", refused("no")).expect(*undone).ends("compensated")
    assert ended.others["child"].status == "compensated"


def test_a_story_names_steps_that_exist() -> None:
    with pytest.raises(DefinitionError, match=r"chain has no 'thrid'; it has first, second"):
        given(Chain).when("thrid", refused("no"))


def test_a_story_that_ends_otherwise_tells_its_history() -> None:
    with pytest.raises(BrokenInvariant, match=r"status is 'failed', expected 'completed'") as caught:
        given(Chain).when("first", refused("sold out")).ends("completed")
    assert any("step_refused first (refused, sold out)" in line for line in caught.value.history)


def test_behind_the_pivot_a_step_that_may_be_skipped_is_skipped() -> None:
    class Obliging(SagaDefinition, register=False):
        type = "obliging"

        @step(pivot=True)
        def ship(self, saga: SagaView) -> Call:
            return shop.post("ship")

        @step(fallback=Fallback.SKIP)
        def thank(self, saga: SagaView) -> Call:
            return shop.post("thank")

    ended = given(Obliging).when("thank", refused("no letters today")).expect().ends("completed")
    assert ended.step("thank").status is StepStatus.SKIPPED


def test_a_compensation_is_given_up_when_it_has_lasted_too_long() -> None:
    class Impatient(SagaDefinition, register=False):
        type = "impatient"

        @step
        def book(self, saga: SagaView) -> Call:
            return shop.post("book")

        @book.compensation(retry=Retry(attempts=99, total=timedelta(seconds=5)))
        def unbook(self, saga: SagaView) -> Call:
            return shop.post("unbook")

        @step
        def pay(self, saga: SagaView) -> Call:
            return shop.post("pay")

    story = given(Impatient).when("pay", refused("no")).when("unbook", transient(times=ALWAYS))
    ended = story.ends("compensation_failed")
    assert timedelta(seconds=5) < ended.took < timedelta(seconds=30)
