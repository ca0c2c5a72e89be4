"""Move goods from one store to another."""

from datetime import timedelta
from typing import Any

from pydantic import ConfigDict

from sagas.definition import Call, SagaDefinition, SagaInput, SagaView, step
from sagas.retail.inputs import Id, Items
from sagas.retail.services import inventory, personnel, stores


class TransferInput(SagaInput):
    """Goods that an employee has moved between two stores."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "source_store_id": 1,
                    "destination_store_id": 2,
                    "employee_id": 1,
                    "items": [{"product_id": 457, "quantity": 10}],
                }
            ]
        }
    )

    source_store_id: Id
    destination_store_id: Id
    employee_id: Id
    items: Items


class TransferSaga(SagaDefinition):
    """One transfer between two stores."""

    type, version = "transfer_saga", 1
    Input = TransferInput
    deadline = timedelta(minutes=5)

    @step
    def validate_employee(self, saga: SagaView) -> Call:
        return personnel.get(
            "validate-employee",
            saga.input.employee_id,
            action="transfer",
            store_id=saga.input.source_store_id,
        )

    @validate_employee.compensation
    def invalidate_session(self, saga: SagaView) -> Call:
        return personnel.post(
            "invalidate-session", session_id=saga.results.validate_employee.get("session_id")
        )

    @step(read_only=True)
    def check_stores(self, saga: SagaView) -> Call:
        return stores.post(
            "check-stores",
            source_store_id=saga.input.source_store_id,
            destination_store_id=saga.input.destination_store_id,
        )

    @step
    def take_from_source(self, saga: SagaView) -> Call:
        return inventory.post("take-from-source", store_id=saga.input.source_store_id, items=saga.input.items)

    @take_from_source.compensation
    def return_to_source(self, saga: SagaView) -> Call:
        return inventory.post("return-to-source")

    @step
    def add_to_destination(self, saga: SagaView) -> Call:
        return inventory.post(
            "add-to-destination", store_id=saga.input.destination_store_id, items=saga.input.items
        )

    @add_to_destination.compensation
    def remove_from_destination(self, saga: SagaView) -> Call:
        return inventory.post("remove-from-destination")

    # The note says that goods have moved and nothing takes it back; so once it may stand, they have.
    @step(pivot=True)
    def record_movement(self, saga: SagaView) -> Call:
        return inventory.post(
            "record-movement",
            source_store_id=saga.input.source_store_id,
            destination_store_id=saga.input.destination_store_id,
            employee_id=saga.input.employee_id,
            items=saga.input.items,
        )

    def result(self, saga: SagaView) -> dict[str, Any]:
        return {"movement_id": saga.results.record_movement["movement_id"]}
