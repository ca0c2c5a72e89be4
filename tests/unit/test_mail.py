"""Rule 17: a signal is found by the step that waits for it, and binds to a generation of that step."""

from sagas.definition import Call, SagaDefinition, SagaView, Wait, approval, signal, step
from sagas.state import SagaState, Status, StepStatus
from tests.deciding import FORBIDDEN, LATER, NO, OK, recorded, signalled, started, taken, told, wish
from tests.definitions import Signed, shop

YES, NEVER = {"approved": True}, {"approved": False, "reason": "never"}


class Asking(SagaDefinition, register=False):
    """Asks before and after a call."""

    type = "asking"

    @step
    def ask(self, saga: SagaView) -> Wait:
        return approval("asked")

    @step
    def call(self, saga: SagaView) -> Call:
        return shop.post("call")

    @call.compensation
    def call_off(self, saga: SagaView) -> Call:
        return shop.post("call-off")

    @step
    def hear(self, saga: SagaView) -> Wait:
        return signal("heard")


class AsksBehind(SagaDefinition, register=False):
    """Asks behind its point of no return."""

    type = "asks_behind"

    @step(pivot=True)
    def call(self, saga: SagaView) -> Call:
        return shop.post("call")

    @step
    def ask(self, saga: SagaView) -> Wait:
        return approval("asked")


SIGNED, ASKING, BEHIND = Signed(), Asking(), AsksBehind()


def names(state: SagaState) -> list[str]:
    """What lies in the mailbox."""
    return [mail["name"] for mail in state.mailbox]


def test_a_signal_that_comes_while_the_saga_is_parked_is_read_when_it_goes_on() -> None:
    state = taken(signalled(SIGNED, told(SIGNED, OK), "signed", YES), 3)
    parked = signalled(SIGNED, recorded(SIGNED, state, 3, FORBIDDEN), "word", {"a": 1})
    assert (parked.status, names(parked)) == (Status.PARKED, ["word"])
    after = wish(SIGNED, parked, "retry")
    assert (after.steps[5].status, after.steps[5].result) == (StepStatus.COMPLETED, {"a": 1})
    assert names(after) == []


def test_a_rejection_that_comes_while_the_saga_is_parked_turns_it_when_it_goes_on() -> None:
    class Pair(SagaDefinition, register=False):
        type = "asking_pair"

        @step(group="pair")
        def ask(self, saga: SagaView) -> Wait:
            return approval("asked")

        @step(group="pair")
        def call(self, saga: SagaView) -> Call:
            return shop.post("call")

    definition = Pair()
    parked = recorded(definition, taken(started(definition)), 1, FORBIDDEN)
    after = wish(definition, signalled(definition, parked, "asked", NEVER), "retry")
    assert (after.status, (after.error or {})["code"]) == (Status.FAILED, "rejected")


def test_a_signal_that_comes_before_the_first_claim_is_read() -> None:
    class Pair(SagaDefinition, register=False):
        type = "hearing_pair"

        @step(group="pair")
        def hear(self, saga: SagaView) -> Wait:
            return signal("heard")

        @step(group="pair")
        def call(self, saga: SagaView) -> Call:
            return shop.post("call")

    definition = Pair()
    state = started(definition)
    assert state.status is Status.PENDING
    assert signalled(definition, state, "heard").steps[0].status is StepStatus.COMPLETED


def test_a_signal_does_not_start_a_saga_and_is_read_once_it_was_started() -> None:
    told_early = signalled(ASKING, started(ASKING, execute=False), "asked", YES)
    assert (told_early.status, names(told_early)) == (Status.PENDING, ["asked"])
    assert wish(ASKING, told_early, "execute").steps[1].due_at == LATER


def asked_twice() -> SagaState:
    """Approved by a double click, and told early what the last step will wait for."""
    state = signalled(ASKING, started(ASKING), "asked", YES, 1)
    state = signalled(ASKING, signalled(ASKING, state, "asked", YES, 2), "heard", None, 3)
    assert names(state) == ["asked", "heard"]
    return state


def test_an_old_approval_does_not_approve_a_new_generation() -> None:
    after = wish(ASKING, asked_twice(), "retry-from", step="ask")
    ask = after.steps[0]
    assert (ask.status, ask.generation) == (StepStatus.WAITING, 1)
    assert names(after) == ["heard"]


def test_mail_for_steps_that_are_not_run_again_stays() -> None:
    after = wish(ASKING, asked_twice(), "retry-from", step="call")
    assert names(after) == ["asked", "heard"]


def test_an_old_signal_does_not_serve_a_second_run() -> None:
    failed = told(ASKING, NO, state=asked_twice())
    assert failed.status is Status.FAILED
    after = wish(ASKING, failed, "retry")
    assert (after.steps[0].status, names(after)) == (StepStatus.WAITING, ["heard"])


def test_a_step_left_out_by_hand_does_not_read_its_late_signal_in_a_new_generation() -> None:
    left_out = wish(ASKING, started(ASKING), "skip", step="ask")
    late = signalled(ASKING, left_out, "asked", YES)
    assert wish(ASKING, late, "retry-from", step="ask").steps[0].status is StepStatus.WAITING


def test_a_rejection_behind_the_pivot_is_not_read_again_by_the_new_generation() -> None:
    state = signalled(BEHIND, told(BEHIND, OK), "asked", NEVER, 1)
    assert state.status is Status.PARKED
    after = wish(BEHIND, signalled(BEHIND, state, "asked", NEVER, 2), "retry")
    ask = after.steps[1]
    assert (after.status, ask.status, ask.generation) == (Status.WAITING, StepStatus.WAITING, 1)
