"""Children and locks: their stories (rules 17, 18)."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from sagas.definition import Call, Child, Fallback, SagaDefinition, SagaView, step
from sagas.errors import DefinitionError, NotAllowed
from sagas.interventions import Wish, intervene
from sagas.state import (
    Decision,
    Entry,
    SagaState,
    Signalled,
    Status,
    StepStatus,
)
from sagas.testing import (
    ALWAYS,
    BrokenInvariant,
    Scenario,
    crash_matrix,
    forbidden,
    given,
    refused,
    transient,
    unknown,
    worker_lost,
)
from sagas.transitions import begin, decide
from tests.definitions import Bare, Buyer, Chain, Family, Locked, Parent, Pivot, Refusing, shop

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
both_modes = pytest.mark.usefixtures("mode")
CHILD_UNDONE = ("child/undo-second", "child/undo-first")


def parent() -> Scenario:
    """A saga that starts a child and goes on behind it."""
    return given(Parent).with_child(Chain)


# --- Children -------------------------------------------------------------------------------------------


@both_modes
def test_rule_18_a_parent_takes_the_result_of_its_child() -> None:
    ended = parent().answering("child/first", id=7).expect().ends("completed")
    assert ended.calls == (
        "begin",
        "child",
        *(f"child/{s}" for s in ("first", "second", "third", "last")),
        "patient",
    )
    assert ended.step("child").result == {"saga_id": str(UUID(int=2)), "id": 7}
    assert ended.others["child"].parent_id == ended.state.id


@both_modes
def test_rule_18_a_child_that_fails_refuses_its_parents_step() -> None:
    story = parent().when("child/third", refused("no more", "sold_out"))
    ended = story.expect(*CHILD_UNDONE, "undo-begin").ends("compensated", code="sold_out")
    assert ended.others["child"].status is Status.COMPENSATED


@both_modes
def test_rule_18_compensating_the_parent_compensates_the_child() -> None:
    story = parent().cancelled_during("child/last").expect("child/undo-third", *CHILD_UNDONE, "undo-begin")
    ended = story.ends("compensated", code="compensation_requested")
    assert ended.others["child"].status is Status.COMPENSATED


@both_modes
def test_rule_18_a_child_times_out_by_its_own_deadline() -> None:
    ended = parent().timed_out_during("child/second").expect(*CHILD_UNDONE, "undo-begin").ends("compensated")
    assert (ended.others["child"].error or {})["code"] == "timeout"


@both_modes
def test_rule_18_a_child_past_its_point_of_no_return_parks_the_parent() -> None:
    ended = given(Buyer).with_child(Pivot).when("unpack", refused("broken")).ends("compensation_failed")
    assert ended.others["buy"].status is Status.COMPLETED
    assert (ended.step("buy").undo_error or {})["code"] == "child_not_undone"


@both_modes
def test_rule_18_a_child_whose_compensation_is_parked_parks_the_parent() -> None:
    story = parent().when("patient", refused("no")).when("child/undo-second", refused("gone"))
    ended = story.ends("compensation_failed")
    assert ended.others["child"].status is Status.COMPENSATION_FAILED
    assert ended.step("begin").status is StepStatus.COMPLETED


class Reads(SagaDefinition, register=False):
    """Looks twice and changes nothing."""

    type = "reads"

    @step
    def look(self, saga: SagaView) -> Call:
        return shop.get("look", 1)

    @step
    def look_closer(self, saga: SagaView) -> Call:
        return shop.get("look-closer", 1)


class Curious(SagaDefinition, register=False):
    """Starts a child that changes nothing, and does something behind it."""

    type = "curious"

    @step
    def ask(self, saga: SagaView) -> Child:
        return Child("reads", {})

    @step
    def take(self, saga: SagaView) -> Call:
        return shop.post("take")

    @take.compensation
    def give_back(self, saga: SagaView) -> Call:
        return shop.post("give-back")


class Hasty(SagaDefinition, register=False):
    """Does without its child if that takes too long, or fails."""

    type = "hasty"

    @step(fallback=Fallback.SKIP, wait_limit=timedelta(minutes=1))
    def child(self, saga: SagaView) -> Child:
        return Child("bare", {})

    @step
    def close(self, saga: SagaView) -> Call:
        return shop.post("close")


@both_modes
def test_a_completed_child_with_nothing_to_undo_counts_as_undone() -> None:
    ended = given(Curious).with_child(Reads).when("take", refused("no")).ends("compensated")
    assert ended.others["ask"].status is Status.COMPLETED
    assert ended.step("ask").status is StepStatus.COMPENSATED


def hasty() -> Scenario:
    """A saga that may do without its child."""
    return given(Hasty).with_child(Bare)


@both_modes
def test_rule_18_a_child_that_is_late_is_undone_and_not_left_behind() -> None:
    ended = hasty().when("child/take", forbidden()).ends("compensated", code="wait_timeout")
    assert ended.others["child"].status is Status.COMPENSATED


@both_modes
def test_a_saga_does_without_a_child_that_has_failed() -> None:
    ended = hasty().when("child/take", refused("sold out")).ends("completed")
    assert ended.step("child").status is StepStatus.SKIPPED


@both_modes
@pytest.mark.parametrize(("definition", "child"), [(Curious, Reads), (Hasty, Bare)])
def test_nothing_breaks_a_family_that_reads_or_hastens(
    definition: type[SagaDefinition], child: type[SagaDefinition]
) -> None:
    crash_matrix(definition, children=[child], depth=1)


@both_modes
def test_a_parent_waits_for_a_child_that_waits_for_a_person() -> None:
    ended = parent().when("child/second", forbidden()).ends("waiting")
    assert ended.others["child"].status is Status.PARKED


@both_modes
@pytest.mark.parametrize("after", [True, False])
def test_rule_18_a_worker_that_is_lost_while_it_starts_a_child_leaves_one_child(after: bool) -> None:
    ended = parent().when("child", worker_lost(after_the_call=after)).expect().ends("completed")
    assert list(ended.others) == ["child"]


@both_modes
def test_a_family_of_three_generations() -> None:
    class Grandparent(SagaDefinition, register=False):
        type = "grandparent"

        @step
        def house(self, saga: SagaView) -> Child:
            return Child("parent", {})

        @step
        def move(self, saga: SagaView) -> Call:
            return shop.post("move")

    story = given(Grandparent).with_child(Parent, Chain).when("move", refused("rain"))
    story.when("house/child/undo-third", unknown(times=3))
    undone = ("undo-patient", "child/undo-third", "child/undo-second", "child/undo-first", "undo-begin")
    ended = story.expect(*(f"house/{name}" for name in undone)).ends("compensated")
    assert set(ended.others) == {"house", "house/child"}


def test_a_step_that_starts_a_child_is_not_answered_by_a_story() -> None:
    with pytest.raises(DefinitionError, match="starts a saga; say what happens to its steps"):
        parent().when("child", transient()).ends("completed")


@pytest.mark.parametrize("name", ["child/frist", "third/first"])
def test_a_story_names_steps_that_its_children_have(name: str) -> None:
    with pytest.raises(DefinitionError, match=r"has no '(frist|third)'; it has"):
        parent().when(name, transient()).ends("completed")


# --- Locks ----------------------------------------------------------------------------------------------


@both_modes
def test_rule_18_a_second_saga_waits_until_the_lock_is_free() -> None:
    ended = given(Locked).beside("second", Locked).when("change", transient(times=2)).ends("completed")
    assert ended.calls == ("change", "change", "change", "tell", "second/change", "second/tell")
    assert ended.others["second"].status is Status.COMPLETED


@both_modes
def test_rule_18_a_lock_is_granted_in_order() -> None:
    ended = given(Locked).beside("second", Locked).beside("third", Locked).ends("completed")
    assert [call for call in ended.calls if call.endswith("tell")] == ["tell", "second/tell", "third/tell"]


@both_modes
def test_rule_18_a_lock_is_held_until_all_is_undone() -> None:
    ended = given(Locked).beside("second", Locked).when("tell", refused("no")).ends("compensated")
    assert ended.calls == ("change", "tell", "change-back", "second/change", "second/tell")


@both_modes
def test_rule_18_a_parked_saga_keeps_its_lock() -> None:
    ended = given(Locked).beside("second", Locked).when("tell", forbidden()).ends("parked")
    assert ended.others["second"].awaits_lock


@both_modes
def test_rule_18_a_second_saga_is_refused_where_that_is_declared() -> None:
    ended = given(Refusing).beside("second", Refusing).ends("completed")
    assert ended.others == {}
    assert any("second is not accepted: 'order:7' is locked" in line for line in ended.history)


@both_modes
def test_rule_18_a_family_shares_its_lock() -> None:
    ended = given(Family).with_child(Locked).beside("second", Locked).ends("completed")
    assert ended.calls[-2:] == ("second/change", "second/tell")
    assert ended.others["member"].lock_key is None


def waiting_for_its_lock() -> SagaState:
    """A saga that stands in line."""
    entry = Entry("saga_started")
    return begin(Locked(), UUID(int=1), {}, "c", NOW, entry=entry, lock_key="order:7").state


def test_rule_18_a_signal_does_not_begin_a_saga_without_its_lock() -> None:
    made = decide(Locked(), waiting_for_its_lock(), Signalled("1", "go", None), NOW)
    assert isinstance(made, Decision)
    assert made.state.awaits_lock
    assert [mail["name"] for mail in made.state.mailbox] == ["go"]


@pytest.mark.parametrize("verb", ["skip", "mark-done"])
def test_rule_18_nobody_settles_a_step_of_a_saga_without_its_lock(verb: str) -> None:
    with pytest.raises(NotAllowed, match="waits for its lock 'order:7'"):
        intervene(Locked(), waiting_for_its_lock(), verb, Wish(step="change"), Entry(verb), NOW)


@both_modes
@pytest.mark.parametrize("verb", ["skip", "mark-done"])
def test_rule_18_nobody_leaves_a_child_behind(verb: str) -> None:
    waiting = parent().when("child/second", forbidden()).ends("waiting").state
    with pytest.raises(NotAllowed, match="has started a saga of its own"):
        intervene(Parent(), waiting, verb, Wish(step="child"), Entry(verb), NOW)


def test_every_broken_history_of_a_family_names_its_members() -> None:
    with pytest.raises(BrokenInvariant) as caught:
        parent().when("child/undo-first", transient(times=ALWAYS)).when("patient", refused("no")).ends(
            "failed"
        )
    assert any("[child] worker" in line for line in caught.value.history)
