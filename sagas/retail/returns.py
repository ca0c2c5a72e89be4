"""Take goods of a sale back: the return, the refund, the stock, then the sale's own record."""

from datetime import timedelta
from typing import Any

from pydantic import ConfigDict

from sagas.definition import Call, SagaDefinition, SagaInput, SagaView, step
from sagas.retail.inputs import Id, Items, Reason
from sagas.retail.services import inventory, payments, transactions


class ReturnInput(SagaInput):
    """Goods of an earlier sale that a customer brings back to an employee."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "original_transaction_id": 1,
                    "employee_id": 1,
                    "items": [{"product_id": 457, "quantity": 1}],
                    "reason": "does not fit",
                }
            ]
        }
    )

    original_transaction_id: Id
    employee_id: Id
    items: Items
    reason: Reason


def paid_online(saga: SagaView) -> bool:
    """Whether the original was paid at payments, where its refund then belongs."""
    return saga.results.validate_return.get("payment_id") is not None


class ReturnSaga(SagaDefinition):
    """One return of goods, in part or in whole."""

    type, version = "return_saga", 1
    Input = ReturnInput
    deadline = timedelta(minutes=5)

    @step
    def validate_return(self, saga: SagaView) -> Call:
        return transactions.get("validate-transaction", saga.input.original_transaction_id)

    @step
    def create_return_transaction(self, saga: SagaView) -> Call:
        return transactions.post(
            "create-return",
            original_transaction_id=saga.input.original_transaction_id,
            employee_id=saga.input.employee_id,
            items=saga.input.items,
            reason=saga.input.reason,
        )

    @create_return_transaction.compensation
    def cancel_return(self, saga: SagaView) -> Call:
        created = saga.results.create_return_transaction
        return transactions.post("cancel-return", return_transaction_id=created.get("return_transaction_id"))

    @step
    def process_refund(self, saga: SagaView) -> Call:
        created = saga.results.create_return_transaction
        if not paid_online(saga):
            return transactions.post("refund-sale", return_transaction_id=created["return_transaction_id"])
        return payments.post(
            "process-refund",
            payment_id=saga.results.validate_return["payment_id"],
            amount=created["amount"],
            return_transaction_id=created["return_transaction_id"],
        )

    @process_refund.compensation
    def reverse_refund(self, saga: SagaView) -> Call:
        refund_id = saga.results.process_refund.get("refund_id")
        if paid_online(saga):
            return payments.post("reverse-refund", refund_id=refund_id)
        return transactions.post("reverse-sale-refund", refund_id=refund_id)

    @step
    def restore_stock(self, saga: SagaView) -> Call:
        return inventory.post(
            "restore-stock", store_id=saga.results.validate_return["store_id"], items=saga.input.items
        )

    @restore_stock.compensation
    def reverse_inventory_restore(self, saga: SagaView) -> Call:
        return inventory.post("reverse-restore")

    @step
    def update_sale(self, saga: SagaView) -> Call:
        return transactions.post(
            "update-sale",
            return_transaction_id=saga.results.create_return_transaction["return_transaction_id"],
        )

    @update_sale.compensation
    def reverse_sale_update(self, saga: SagaView) -> Call:
        created = saga.results.create_return_transaction
        return transactions.post(
            "reverse-sale-update", return_transaction_id=created.get("return_transaction_id")
        )

    def result(self, saga: SagaView) -> dict[str, Any]:
        created = saga.results.create_return_transaction
        return {
            "return_transaction_id": created["return_transaction_id"],
            "refund_id": saga.results.process_refund["refund_id"],
            "refunded": created["amount"],
        }
