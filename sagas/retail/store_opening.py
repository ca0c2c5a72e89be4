"""Can a store open on a day? Stock, store and staff are asked at the same time."""

from datetime import timedelta
from typing import Any

from pydantic import ConfigDict

from sagas.definition import Call, SagaDefinition, SagaInput, SagaView, parallel, step
from sagas.retail.inputs import Day, Id, ProductIds
from sagas.retail.services import inventory, personnel, stores


class StoreOpeningInput(SagaInput):
    """A store, a day, and the products that must not be missing."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"store_id": 1, "date": "2026-03-02", "product_ids": [456, 457]}]}
    )

    store_id: Id
    date: Day
    product_ids: ProductIds


class StoreOpeningCheck(SagaDefinition):
    """Three questions in parallel and a summary of their answers; nothing has an effect."""

    type, version = "store_opening_check", 1
    Input = StoreOpeningInput
    deadline = timedelta(minutes=2)
    execution = "inline"
    questions = parallel("questions")

    @questions.step(read_only=True)
    def check_stock(self, saga: SagaView) -> Call:
        return inventory.post("check-stock", store_id=saga.input.store_id, product_ids=saga.input.product_ids)

    @questions.step
    def store_info(self, saga: SagaView) -> Call:
        return stores.get("store-info", store_id=saga.input.store_id)

    @questions.step
    def employee_schedule(self, saga: SagaView) -> Call:
        return personnel.get("employee-schedule", store_id=saga.input.store_id, date=saga.input.date)

    @step
    def summary(self, saga: SagaView) -> dict[str, Any]:
        store = saga.results.store_info
        missing = [item["product_id"] for item in saga.results.check_stock["items"] if item["available"] == 0]
        staff = [shift["name"] for shift in saga.results.employee_schedule["shifts"]]
        return {
            "store_id": store["store_id"],
            "store": store["name"],
            "opens_at": store["opens_at"],
            "closes_at": store["closes_at"],
            "staff": staff,
            "out_of_stock": missing,
            "ready": bool(staff) and not missing,
        }

    def result(self, saga: SagaView) -> dict[str, Any]:
        return dict(saga.results.summary)
