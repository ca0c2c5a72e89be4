"""Fill up a store from the central stock."""

from datetime import timedelta
from typing import Any

from pydantic import ConfigDict

from sagas.definition import Call, SagaDefinition, SagaInput, SagaView, step
from sagas.retail.inputs import Id, Items, given
from sagas.retail.services import inventory, supply_chain


class ReplenishmentInput(SagaInput):
    """Goods that an employee asks for on behalf of a store, now or by a request raised before."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"store_id": 1, "employee_id": 1, "items": [{"product_id": 457, "quantity": 50}]}]
        }
    )

    store_id: Id
    employee_id: Id
    items: Items
    request_id: Id | None = None


class ReplenishmentSaga(SagaDefinition):
    """One delivery from the centre, if the supply chain approves; a rejection carries its reason."""

    type, version = "replenishment_saga", 1
    Input = ReplenishmentInput
    deadline = timedelta(minutes=5)

    @step
    def approve_request(self, saga: SagaView) -> Call:
        return supply_chain.post(
            "approve-request",
            store_id=saga.input.store_id,
            employee_id=saga.input.employee_id,
            items=saga.input.items,
            **given(request_id=saga.input.request_id),
        )

    @approve_request.compensation
    def reopen_request(self, saga: SagaView) -> Call:
        return supply_chain.post("reopen-request", request_id=saga.results.approve_request.get("request_id"))

    @step
    def take_from_central(self, saga: SagaView) -> Call:
        return supply_chain.post(
            "take-from-central",
            store_id=saga.input.store_id,
            items=saga.input.items,
            request_id=saga.results.approve_request["request_id"],
        )

    @take_from_central.compensation
    def return_to_central(self, saga: SagaView) -> Call:
        return supply_chain.post("return-to-central")

    @step
    def add_to_store(self, saga: SagaView) -> Call:
        return inventory.post("add-to-store", store_id=saga.input.store_id, items=saga.input.items)

    @add_to_store.compensation
    def remove_from_store(self, saga: SagaView) -> Call:
        return inventory.post("remove-from-store")

    def result(self, saga: SagaView) -> dict[str, Any]:
        return {"request_id": saga.results.approve_request["request_id"]}
