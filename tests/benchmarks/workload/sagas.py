"""Four steps with one call each; `refused` makes the peer refuse the fourth, so that three are undone."""

from sagas.definition import Call, Participant, SagaDefinition, SagaInput, SagaView, step
from tests.benchmarks.workload.operations import ACTIONS, REFUSED, UNDOS

peer = Participant("peer")


class BenchInput(SagaInput):
    """Whether the fourth step is refused, and something to send along."""

    refused: bool
    amount: int


class ChainedSaga(SagaDefinition):
    """One task a step."""

    type, version = "bench_chain", 1
    Input = BenchInput

    @step
    def one(self, saga: SagaView) -> Call:
        return peer.post(ACTIONS[0], amount=saga.input.amount)

    @one.compensation
    def undo_one(self, saga: SagaView) -> Call:
        return peer.post(UNDOS[0], id=saga.results.one.get("id"))

    @step
    def two(self, saga: SagaView) -> Call:
        return peer.post(ACTIONS[1], amount=saga.input.amount)

    @two.compensation
    def undo_two(self, saga: SagaView) -> Call:
        return peer.post(UNDOS[1], id=saga.results.two.get("id"))

    @step
    def three(self, saga: SagaView) -> Call:
        return peer.post(ACTIONS[2], amount=saga.input.amount)

    @three.compensation
    def undo_three(self, saga: SagaView) -> Call:
        return peer.post(UNDOS[2], id=saga.results.three.get("id"))

    @step
    def four(self, saga: SagaView) -> Call:
        return peer.post(REFUSED if saga.input.refused else ACTIONS[3], amount=saga.input.amount)


class InlineSaga(ChainedSaga):
    """The same, the worker going on with the next step at once."""

    type = "bench_inline"
    execution = "inline"
