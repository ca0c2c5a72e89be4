"""Order and pay, choreographed: stock, payment and order answer one another; each undoes its own part."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sagas.choreography.events import Event, Fact, following_id, key_of
from sagas.choreography.topics import Caller, Facts, Topic
from sagas.retail.choreography.checkout import undone
from sagas.retail.choreography.read_models import AUDIT
from sagas.retail.order import OrderInput
from sagas.retail.services import inventory, notifications, orders, payments
from sagas.state import Done, Refused

STOCK, PAYMENT, ORDER = "order-stock", "order-payment", "order-service"

ordering = Topic(
    "ecommerce.order.events",
    first="OrderInitiated",
    statuses={
        "OrderInitiated": "initiated",
        "StockReserved": "stock_reserved",
        "StockReservationFailed": "failing",
        "PaymentMade": "paid",
        "PaymentFailed": "failing",
        "OrderTimedOut": "timed_out",
        "OrderCreated": "created",
        "OrderCancelled": "cancelled",
        "StockReleased": "cancelled",
        "PaymentRefunded": "cancelled",
    },
    ends={"OrderCreated": True, "OrderCancelled": False},
    timed_out="OrderTimedOut",
    timeout=timedelta(seconds=60),
    Input=OrderInput,
    id_field="order_ref",
    client_field="client_id",
    personal=frozenset({"client_id", "reason"}),
)

stock = ordering.group(STOCK)
payment = ordering.group(PAYMENT)
service = ordering.group(ORDER)
notification = ordering.group("order-notification")
audit = ordering.group("order-audit", fold=AUDIT)


def no_reservation(event: Event, reason: str) -> Facts:
    """Nobody knows whether the stock was reserved; the cancellation releases it in any case."""
    return [Fact("StockReservationFailed", {"reason": reason, "code": "given_up"})]


def no_payment(event: Event, reason: str) -> Facts:
    """Nobody knows whether the client has paid; the cancellation refunds it in any case."""
    return [Fact("PaymentFailed", {"reason": reason, "code": "given_up"})]


@stock.on("OrderInitiated", given_up=no_reservation)
def reserve(event: Event, call: Caller) -> Facts:
    """Promise the stock to this order."""
    wanted = {name: event.data[name] for name in ("store_id", "items")}
    match call(inventory.post("reserve-stock", **wanted, hold="order")):
        case Done(result):
            kept = {name: event.data[name] for name in ("amount", "currency")}
            told = {**wanted, **kept, "reservation_id": result["reservation_id"]}
            return [Fact("StockReserved", told)]
        case Refused(code, reason):
            return [Fact("StockReservationFailed", {"reason": reason, "code": code})]


@payment.on("StockReserved", given_up=no_payment)
def pay(event: Event, call: Caller) -> Facts:
    """Debit the client's account."""
    charge = {"amount": event.data["amount"], "currency": event.data["currency"]}
    match call(payments.post("process-payment", customer_id=event.data["client_id"], **charge)):
        case Done(result):
            kept = {name: event.data[name] for name in ("store_id", "items", "reservation_id")}
            return [Fact("PaymentMade", {**kept, **charge, "payment_id": result["payment_id"]})]
        case Refused(code, reason):
            return [Fact("PaymentFailed", {"reason": reason, "code": code})]


def cancelled(event: Event, reason: str) -> Facts:
    """The order will not be."""
    return [Fact("OrderCancelled", {"reason": reason, "cancelled_at": event.type})]


@service.on("PaymentMade", given_up=cancelled)
def create(event: Event, call: Caller) -> Facts:
    """Create the order that is paid."""
    names = ("client_id", "store_id", "items", "amount", "currency", "reservation_id", "payment_id")
    match call(orders.post("create-order", **{name: event.data[name] for name in names})):
        case Done(result):
            kept = {name: event.data[name] for name in ("store_id", "amount", "currency")}
            return [Fact("OrderCreated", {**kept, "order_id": result["order_id"]})]
        case Refused(_, reason):
            return cancelled(event, reason)


@service.on("StockReservationFailed", "PaymentFailed", "OrderTimedOut")
def cancel(event: Event, call: Caller) -> Facts:
    """Cancel; whoever did something for the order hears it and undoes that."""
    return cancelled(event, event.data.get("reason", ""))


@stock.on("OrderCancelled")
def release(event: Event, call: Caller) -> Facts:
    """Give the stock back, and an order that may have been created after all its end."""
    paid = following_id(reserved_id(event), PAYMENT, "PaymentMade")
    undone(call(orders.post("cancel-order"), undoes=key_of(paid, ORDER)))
    undone(call(inventory.post("release-stock"), undoes=key_of(event.stream, STOCK)))
    return [Fact("StockReleased")]


@payment.on("OrderCancelled")
def refund(event: Event, call: Caller) -> Facts:
    """Give the money back."""
    undone(call(payments.post("refund-payment"), undoes=key_of(reserved_id(event), PAYMENT)))
    return [Fact("PaymentRefunded")]


@notification.on("OrderCreated", "OrderCancelled")
def tell_client(event: Event, call: Caller) -> Facts:
    """Send the client a message."""
    if event.type == "OrderCreated":
        message = {"order_id": event.data["order_id"]}
    else:
        message = {"text": f"We are sorry: your order was cancelled ({event.data['reason']})."[:500]}
    call(notifications.post("send-confirmation", client_id=event.data["client_id"], **message))
    return []


def reserved_id(event: Event) -> UUID:
    """The id that the event of the order's reservation has, if it was made."""
    return following_id(event.stream, STOCK, "StockReserved")
