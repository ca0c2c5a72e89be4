"""Check out a basket, orchestrated: stock, prices, reservation, order."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

from pydantic import ConfigDict

from sagas.definition import Call, SagaDefinition, SagaInput, SagaView, step
from sagas.retail.inputs import Id, Items, given
from sagas.retail.services import catalogue, inventory, orders


class CheckoutInput(SagaInput):
    """A basket as a client sends it: without prices, which are the catalogue's to say.

    It may be made from a cart and a delivery address that the orders keep; the order closes the cart.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"client_id": 123, "store_id": 1, "items": [{"product_id": 456, "quantity": 2}]}]
        }
    )

    client_id: Id
    store_id: Id
    items: Items
    cart_id: Id | None = None
    address_id: Id | None = None


class CheckoutSaga(SagaDefinition):
    """One checkout."""

    type, version = "checkout_saga", 1
    Input = CheckoutInput
    deadline = timedelta(minutes=5)
    execution = "inline"

    display: ClassVar[Mapping[str, str]] = {
        "completed": "finished",
        "compensated": "cancelled",
        "compensating": "compensating",
        "verify-stock pending": "checking_stock",
        "verify-stock in_progress": "checking_stock",
        "fetch-product pending": "stock_checked",
        "fetch-product in_progress": "stock_checked",
        "reserve-stock pending": "stock_checked",
        "reserve-stock in_progress": "reserving_stock",
        "create-order pending": "stock_reserved",
        "create-order in_progress": "creating_order",
        "create-order completed": "order_created",
        "verify-stock failed": "failed_insufficient_stock",
        "reserve-stock failed": "failed_stock_reservation",
        "create-order failed": "failed_order_creation",
    }

    @step(read_only=True)
    def verify_stock(self, saga: SagaView) -> Call:
        return inventory.post("check-stock", store_id=saga.input.store_id, items=saga.input.items)

    @step(read_only=True)
    def fetch_product(self, saga: SagaView) -> Call:
        return catalogue.post("price-items", items=saga.input.items)

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

    @step
    def create_order(self, saga: SagaView) -> Call:
        priced = saga.results.fetch_product
        return orders.post(
            "create-order",
            client_id=saga.input.client_id,
            store_id=saga.input.store_id,
            items=priced["items"],
            amount=priced["total"],
            currency=priced["currency"],
            reservation_id=saga.results.reserve_stock["reservation_id"],
            **given(cart_id=saga.input.cart_id, address_id=saga.input.address_id),
        )

    @create_order.compensation
    def cancel_order(self, saga: SagaView) -> Call:
        return orders.post("cancel-order", order_id=saga.results.create_order.get("order_id"))

    def result(self, saga: SagaView) -> dict[str, Any]:
        order = saga.results.create_order
        return {"order_id": order["order_id"], "amount": order["amount"], "currency": order["currency"]}
