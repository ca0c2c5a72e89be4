"""The shop's sagas, found because the module is called `sagas`."""

from typing import Any

from sagas.definition import Call, Participant, SagaDefinition, SagaInput, SagaView, step

warehouse = Participant("warehouse")


class OrderInput(SagaInput):
    """What is ordered."""

    sku: str
    pieces: int


class OrderSaga(SagaDefinition):
    """A local step, a remote one with its inverse, and a local one that may refuse the rest."""

    type = "shop_order"
    Input = OrderInput

    @step
    def weigh(self, saga: SagaView) -> dict[str, int]:
        return {"grams": 250 * saga.input.pieces}

    @step
    def reserve(self, saga: SagaView) -> Call:
        return warehouse.post("reserve", sku=saga.input.sku, pieces=saga.input.pieces)

    @reserve.compensation
    def release(self, saga: SagaView) -> Call:
        return warehouse.post("release")

    @step
    def ship(self, saga: SagaView) -> Call:
        return warehouse.post("ship", grams=saga.results.weigh["grams"])

    def result(self, saga: SagaView) -> dict[str, Any]:
        return {"grams": saga.results.weigh["grams"], **saga.results.ship}
