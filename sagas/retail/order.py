"""Order a basket: stock, the client's account, the order, a message to the client."""

from datetime import timedelta
from typing import Any

from pydantic import ConfigDict

from sagas.definition import Call, SagaDefinition, SagaInput, SagaView, step
from sagas.retail.inputs import Currency, Id, Items, PositiveMoney
from sagas.retail.services import inventory, notifications, orders, payments


class OrderInput(SagaInput):
    """A basket at an agreed amount."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "client_id": 123,
                    "store_id": 1,
                    "items": [{"product_id": 456, "quantity": 2}],
                    "amount": "59.98",
                }
            ]
        }
    )

    client_id: Id
    store_id: Id
    items: Items
    amount: PositiveMoney
    currency: Currency = "EUR"


class OrderSaga(SagaDefinition):
    """One order of a client."""

    type, version = "order_saga", 1
    Input = OrderInput
    deadline = timedelta(minutes=5)
    execution = "inline"

    @step
    def reserve_stock(self, saga: SagaView) -> Call:
        # Held for an order: the goods stay promised for as long as the order stands.
        return inventory.post(
            "reserve-stock", store_id=saga.input.store_id, items=saga.input.items, hold="order"
        )

    @reserve_stock.compensation
    def release_stock(self, saga: SagaView) -> Call:
        return inventory.post(
            "release-stock", reservation_id=saga.results.reserve_stock.get("reservation_id")
        )

    @step(timeout=timedelta(seconds=5))
    def debit_account(self, saga: SagaView) -> Call:
        return payments.post(
            "process-payment",
            customer_id=saga.input.client_id,
            amount=saga.input.amount,
            currency=saga.input.currency,
        )

    @debit_account.compensation
    def refund_account(self, saga: SagaView) -> Call:
        return payments.post("refund-payment", payment_id=saga.results.debit_account.get("payment_id"))

    @step
    def create_order(self, saga: SagaView) -> Call:
        return orders.post(
            "create-order",
            client_id=saga.input.client_id,
            store_id=saga.input.store_id,
            items=saga.input.items,
            amount=saga.input.amount,
            currency=saga.input.currency,
            reservation_id=saga.results.reserve_stock["reservation_id"],
            payment_id=saga.results.debit_account["payment_id"],
        )

    @create_order.compensation
    def cancel_order(self, saga: SagaView) -> Call:
        return orders.post("cancel-order", order_id=saga.results.create_order.get("order_id"))

    @step
    def send_notification(self, saga: SagaView) -> Call:
        return notifications.post(
            "send-confirmation",
            client_id=saga.input.client_id,
            order_id=saga.results.create_order["order_id"],
        )

    @send_notification.compensation
    def send_cancellation(self, saga: SagaView) -> Call:
        return notifications.post(
            "send-cancellation", message_id=saga.results.send_notification.get("message_id")
        )

    def result(self, saga: SagaView) -> dict[str, Any]:
        return {
            "order_id": saga.results.create_order["order_id"],
            "payment_id": saga.results.debit_account["payment_id"],
        }
