"""Buy one basket online: stock, payment, sale."""

from datetime import timedelta
from typing import Any, Self

from pydantic import ConfigDict, model_validator

from sagas.definition import Call, SagaDefinition, SagaInput, SagaView, step
from sagas.retail.inputs import (
    Currency,
    Id,
    PaymentMethod,
    PositiveMoney,
    PricedItems,
    require_sum,
    without_price,
)
from sagas.retail.services import inventory, payments, transactions


class PurchaseInput(SagaInput):
    """A basket that a customer pays online; `amount` must be its sum."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "store_id": 1,
                    "customer_id": 123,
                    "items": [{"product_id": 456, "quantity": 2, "price": "29.99"}],
                    "payment_method": "credit_card",
                    "amount": "59.98",
                }
            ]
        }
    )

    store_id: Id
    customer_id: Id
    items: PricedItems
    payment_method: PaymentMethod
    amount: PositiveMoney
    currency: Currency = "EUR"

    @model_validator(mode="after")
    def amount_is_the_sum(self) -> Self:
        """Refuse an amount that is not what the items cost: it would be charged before anybody noticed."""
        require_sum(self.amount, self.items)
        return self


class PurchaseSaga(SagaDefinition):
    """One purchase, paid online and delivered from a store's stock."""

    type, version = "purchase_saga", 1
    Input = PurchaseInput
    deadline = timedelta(minutes=5)
    execution = "inline"

    @step(read_only=True)
    def validate_inventory(self, saga: SagaView) -> Call:
        return inventory.post(
            "check-stock", store_id=saga.input.store_id, items=without_price(saga.input.items)
        )

    @step
    def reserve_inventory(self, saga: SagaView) -> Call:
        return inventory.post(
            "reserve-stock", store_id=saga.input.store_id, items=without_price(saga.input.items)
        )

    @reserve_inventory.compensation
    def release_inventory(self, saga: SagaView) -> Call:
        return inventory.post(
            "release-stock", reservation_id=saga.results.reserve_inventory.get("reservation_id")
        )

    @step
    def process_payment(self, saga: SagaView) -> Call:
        return payments.post(
            "process-payment",
            customer_id=saga.input.customer_id,
            amount=saga.input.amount,
            currency=saga.input.currency,
            payment_method=saga.input.payment_method,
        )

    @process_payment.compensation
    def refund_payment(self, saga: SagaView) -> Call:
        return payments.post("refund-payment", payment_id=saga.results.process_payment.get("payment_id"))

    @step
    def create_sale(self, saga: SagaView) -> Call:
        return transactions.post(
            "create-sale",
            store_id=saga.input.store_id,
            customer_id=saga.input.customer_id,
            items=saga.input.items,
            payment_id=saga.results.process_payment["payment_id"],
            payment_method=saga.input.payment_method,
            amount=saga.input.amount,
            currency=saga.input.currency,
        )

    @create_sale.compensation
    def cancel_sale(self, saga: SagaView) -> Call:
        return transactions.post("cancel-sale", sale_id=saga.results.create_sale.get("sale_id"))

    @step
    def update_inventory(self, saga: SagaView) -> Call:
        return inventory.post(
            "confirm-stock", reservation_id=saga.results.reserve_inventory["reservation_id"]
        )

    @update_inventory.compensation
    def reverse_inventory_update(self, saga: SagaView) -> Call:
        return inventory.post(
            "reverse-stock-confirmation", reservation_id=saga.results.reserve_inventory.get("reservation_id")
        )

    def result(self, saga: SagaView) -> dict[str, Any]:
        return {
            "sale_id": saga.results.create_sale["sale_id"],
            "payment_id": saga.results.process_payment["payment_id"],
        }
