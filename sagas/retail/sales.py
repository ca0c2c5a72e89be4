"""Sell a basket in a store: employee, stock, the customer's money, then make it final."""

from datetime import timedelta
from decimal import Decimal
from typing import Any, Self

from pydantic import ConfigDict, model_validator

from sagas.definition import Call, SagaDefinition, SagaInput, SagaView, step
from sagas.retail.inputs import (
    Currency,
    Id,
    Money,
    PaymentMethod,
    PricedItems,
    require_sum,
    total,
    without_price,
)
from sagas.retail.services import inventory, personnel, transactions


class SalesInput(SagaInput):
    """A basket that a customer buys from an employee; `amount`, if given, must be its sum."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "store_id": 1,
                    "employee_id": 1,
                    "customer_id": 123,
                    "items": [{"product_id": 456, "quantity": 2, "price": "29.99"}],
                    "payment_method": "credit_card",
                    "amount": "59.98",
                }
            ]
        }
    )

    store_id: Id
    employee_id: Id
    customer_id: Id
    items: PricedItems
    payment_method: PaymentMethod
    amount: Money | None = None
    currency: Currency = "EUR"

    @model_validator(mode="after")
    def amount_is_the_sum(self) -> Self:
        """Refuse an amount that is not what the items cost."""
        if self.amount is not None:
            require_sum(self.amount, self.items)
        return self

    @property
    def to_pay(self) -> Decimal:
        """What the customer owes."""
        return total(self.items)


class SalesSaga(SagaDefinition):
    """One sale in a store."""

    type, version = "sales_saga", 1
    Input = SalesInput
    deadline = timedelta(minutes=5)

    @step
    def validate_employee(self, saga: SagaView) -> Call:
        return personnel.get(
            "validate-employee", saga.input.employee_id, action="sell", store_id=saga.input.store_id
        )

    @validate_employee.compensation
    def invalidate_session(self, saga: SagaView) -> Call:
        return personnel.post(
            "invalidate-session", session_id=saga.results.validate_employee.get("session_id")
        )

    @step
    def reserve_stock(self, saga: SagaView) -> Call:
        return inventory.post(
            "reserve-stock", store_id=saga.input.store_id, items=without_price(saga.input.items)
        )

    @reserve_stock.compensation
    def release_stock(self, saga: SagaView) -> Call:
        return inventory.post(
            "release-stock", reservation_id=saga.results.reserve_stock.get("reservation_id")
        )

    @step
    def create_transaction(self, saga: SagaView) -> Call:
        return transactions.post(
            "create-transaction",
            store_id=saga.input.store_id,
            employee_id=saga.input.employee_id,
            customer_id=saga.input.customer_id,
            items=saga.input.items,
            payment_method=saga.input.payment_method,
            amount=saga.input.to_pay,
            currency=saga.input.currency,
        )

    @create_transaction.compensation
    def cancel_transaction(self, saga: SagaView) -> Call:
        return transactions.post(
            "cancel-transaction", transaction_id=saga.results.create_transaction.get("transaction_id")
        )

    @step
    def confirm_stock(self, saga: SagaView) -> Call:
        return inventory.post("confirm-stock", reservation_id=saga.results.reserve_stock["reservation_id"])

    @confirm_stock.compensation
    def reverse_stock_confirmation(self, saga: SagaView) -> Call:
        return inventory.post(
            "reverse-stock-confirmation", reservation_id=saga.results.reserve_stock.get("reservation_id")
        )

    @step
    def confirm_transaction(self, saga: SagaView) -> Call:
        return transactions.post(
            "confirm-transaction", transaction_id=saga.results.create_transaction["transaction_id"]
        )

    def result(self, saga: SagaView) -> dict[str, Any]:
        return {"transaction_id": saga.results.create_transaction["transaction_id"]}
