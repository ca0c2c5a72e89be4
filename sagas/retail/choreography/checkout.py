"""Check out a basket, choreographed: six groups that answer one another, and one that adds up revenue.

The first event's id is the checkout's, so that whoever undoes a reservation knows its key, although
the event that tells of the reservation may never have come.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sagas.choreography.events import Event, Fact, following_id, key_of
from sagas.choreography.topics import Caller, Facts, Topic
from sagas.retail.checkout import CheckoutInput
from sagas.retail.choreography.read_models import AUDIT, ORDERS_BY_CLIENT, REVENUE_BY_STORE_DAY
from sagas.retail.inputs import given
from sagas.retail.services import catalogue, inventory, notifications, orders
from sagas.state import Done, Refused

RESERVATION, ORDER = "choreo-reservation", "choreo-order"

checkout = Topic(
    "ecommerce.checkout.events",
    first="CheckoutInitiated",
    statuses={
        "CheckoutInitiated": "initiated",
        "StockReserved": "stock_reserved",
        "StockReservationFailed": "failing",
        "OrderCreated": "order_created",
        "OrderCreationFailed": "failing",
        "StockReleased": "stock_released",
        "CheckoutTimedOut": "timed_out",
        "CheckoutSucceeded": "succeeded",
        "CheckoutFailed": "failed",
    },
    ends={"CheckoutSucceeded": True, "CheckoutFailed": False},
    timed_out="CheckoutTimedOut",
    timeout=timedelta(seconds=60),
    Input=CheckoutInput,
    id_field="checkout_id",
    client_field="client_id",
    # Reasons are participants' words, which may say anything of the client; the code beside says as much.
    personal=frozenset({"client_id", "address_id", "reason"}),
)

reservation = checkout.group(RESERVATION)
order = checkout.group(ORDER)
compensation = checkout.group("choreo-compensation")
notification = checkout.group("choreo-notification")
audit = checkout.group("choreo-audit", fold=AUDIT)
orders_by_client = checkout.group("checkout-cqrs", "OrderCreated", fold=ORDERS_BY_CLIENT)
revenue = checkout.group("checkout-revenue", "OrderCreated", fold=REVENUE_BY_STORE_DAY)


def no_reservation(event: Event, reason: str) -> Facts:
    """Nobody knows whether the stock was reserved."""
    return [Fact("StockReservationFailed", {"reason": reason, "code": "given_up", "given_up": True})]


def no_order(event: Event, reason: str) -> Facts:
    """Nobody knows whether the order was created."""
    return [Fact("OrderCreationFailed", {"reason": reason, "code": "given_up", "given_up": True})]


@reservation.on("CheckoutInitiated", given_up=no_reservation)
def reserve_stock(event: Event, call: Caller) -> Facts:
    """Promise the stock to this checkout."""
    basket = {"store_id": event.data["store_id"], "items": event.data["items"]}
    match call(inventory.post("reserve-stock", **basket, hold="order")):
        case Done(result):
            cart = given(cart_id=event.data.get("cart_id"))
            return [Fact("StockReserved", {**basket, **cart, "reservation_id": result["reservation_id"]})]
        case Refused(code, reason):
            return [Fact("StockReservationFailed", {"reason": reason, "code": code})]


@order.on("StockReserved", given_up=no_order)
def create_order(event: Event, call: Caller) -> Facts:
    """Order at the catalogue's prices."""
    priced = call(catalogue.post("price-items", items=event.data["items"]))
    if isinstance(priced, Refused):
        return [Fact("OrderCreationFailed", {"reason": priced.reason, "code": priced.code})]
    made = call(
        orders.post(
            "create-order",
            client_id=event.data["client_id"],
            store_id=event.data["store_id"],
            items=priced.result["items"],
            amount=priced.result["total"],
            currency=priced.result["currency"],
            reservation_id=event.data["reservation_id"],
            **kept(event),
        )
    )
    if isinstance(made, Refused):
        return [Fact("OrderCreationFailed", {"reason": made.reason, "code": made.code})]
    ordered = {
        "order_id": made.result["order_id"],
        "store_id": event.data["store_id"],
        "amount": made.result["amount"],
        "currency": made.result["currency"],
    }
    return [Fact("OrderCreated", ordered), Fact("CheckoutSucceeded", {"order_id": ordered["order_id"]})]


@compensation.on("StockReservationFailed", "OrderCreationFailed", "CheckoutTimedOut")
def release_stock(event: Event, call: Caller) -> Facts:
    """Undo whatever was, or may have been, done; undoing comes before what it undoes, if need be."""
    unknown = event.type == "CheckoutTimedOut" or "given_up" in event.data
    failed = Fact("CheckoutFailed", {"reason": event.data.get("reason", ""), "failed_at": event.type})
    if event.type == "StockReservationFailed" and not unknown:
        return [failed]
    if event.type != "StockReservationFailed" and unknown:
        undone(call(orders.post("cancel-order"), undoes=order_key(event.stream)))
    undone(call(inventory.post("release-stock"), undoes=key_of(event.stream, RESERVATION)))
    return [Fact("StockReleased"), failed]


@notification.on("CheckoutSucceeded", "CheckoutFailed")
def tell_customer(event: Event, call: Caller) -> Facts:
    """Send the customer a message."""
    client_id = event.data["client_id"]
    if event.type == "CheckoutSucceeded":
        message = {"order_id": event.data["order_id"]}
    else:
        message = {"text": f"We are sorry: your checkout failed ({event.data['reason']})."[:500]}
    call(notifications.post("send-confirmation", client_id=client_id, **message))
    return []


def order_key(checkout_id: UUID) -> str:
    """The key under which the order of a checkout was, or would have been, created."""
    return key_of(following_id(checkout_id, RESERVATION, "StockReserved"), ORDER)


def kept(event: Event) -> dict[str, int]:
    """The cart and the address that the order is to know, if they were given."""
    return given(cart_id=event.data.get("cart_id"), address_id=event.data.get("address_id"))


def undone(outcome: Done | Refused) -> None:
    """An undoing that is refused must not pass for done.

    Raises:
        RuntimeError: it was refused; the event goes to the dead letters, for a person.
    """
    if isinstance(outcome, Refused):
        raise RuntimeError(f"the undoing was refused: {outcome.code}, {outcome.reason}")
