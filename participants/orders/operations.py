"""What sagas ask of the orders."""

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from participants.contract.bodies import Body, Currency, Identifier, Item, Money, quantities
from participants.contract.outcomes import Outcome, Refused, unprocessable
from participants.contract.service import Call, Recorded, Service
from participants.orders.models import Address, Cart, Order, OrderLine

service = Service("orders")


class OrderedItem(Item):
    """So many of one product, at a price if it is known for each."""

    price: Money | None = None


class CreateOrder(Body):
    """What a client orders; without an amount every item needs its price."""

    client_id: Identifier
    store_id: Identifier
    items: Annotated[list[OrderedItem], Field(min_length=1, max_length=200)]
    amount: Money | None = None
    currency: Currency = "EUR"
    reservation_id: Identifier | None = None
    payment_id: Identifier | None = None
    cart_id: Identifier | None = None
    address_id: Identifier | None = None


@service.action("create-order")
def create_order(body: CreateOrder, call: Call) -> Outcome:
    """Record an order; the cart it is made from is closed by it."""
    cart = cart_of(body)
    order = Order.objects.create(
        client_id=body.client_id,
        store_id=body.store_id,
        reservation_id=body.reservation_id,
        payment_id=body.payment_id,
        delivery_address=address_of(body),
        amount=checked_amount(body),
        currency=body.currency,
        saga_id=call.saga_id,
        created_at=call.now,
    )
    OrderLine.objects.bulk_create(
        OrderLine(order=order, product_id=item.product_id, quantity=item.quantity, price=item.price)
        for item in body.items
    )
    if cart is not None:
        cart.order = order
        cart.save(update_fields=["order"])
    return told(order)


@service.compensation("cancel-order", undoes="create-order")
def cancel_order(done: Recorded, call: Call) -> Outcome:
    """Cancel an order; the cart it was made from is open again."""
    order = Order.objects.select_for_update().get(pk=done["order_id"])
    if order.status != Order.Status.CREATED:
        return Refused("order_not_open", f"Order {order.pk} is {order.status}.")
    order.status = Order.Status.CANCELLED
    order.cancelled_at = call.now
    order.save(update_fields=["status", "cancelled_at"])
    Cart.objects.filter(order=order).update(order=None)
    return told(order)


def cart_of(body: CreateOrder) -> Cart | None:
    """The cart the order is made from, locked; raises Refused if it is not the one that is ordered."""
    if body.cart_id is None:
        return None
    found = Cart.objects.select_for_update().filter(pk=body.cart_id, client_id=body.client_id)
    cart = found.first()
    if cart is None:
        raise unprocessable("unknown_cart", f"Client {body.client_id} has no cart {body.cart_id}.")
    if cart.order_id is not None:
        raise Refused("cart_closed", f"Cart {cart.pk} was ordered as order {cart.order_id}.")
    lines = dict(cart.lines.values_list("product_id", "quantity"))
    if cart.store_id != body.store_id or lines != quantities(body.items):
        raise Refused("cart_changed", f"Cart {cart.pk} does not hold what is ordered.")
    return cart


def address_of(body: CreateOrder) -> str:
    """The delivery address as it is now; raises Refused if the client has no such address."""
    if body.address_id is None:
        return ""
    address = Address.objects.filter(pk=body.address_id, client_id=body.client_id).first()
    if address is None:
        raise unprocessable("unknown_address", f"Client {body.client_id} has no address {body.address_id}.")
    return str(address)


def checked_amount(body: CreateOrder) -> Decimal:
    """The amount of the order; raises Refused if it contradicts the prices, or neither is there."""
    prices = [item.price * item.quantity for item in body.items if item.price is not None]
    computed = sum(prices, Decimal("0.00")) if len(prices) == len(body.items) else None
    if computed is None and body.amount is None:
        raise unprocessable("no_amount", "Neither the amount nor the price of every item is given.")
    if computed is not None and body.amount is not None and computed != body.amount:
        raise unprocessable("amount_mismatch", f"The items cost {computed}, not {body.amount}.")
    return body.amount if computed is None and body.amount is not None else computed or Decimal("0.00")


def told(order: Order) -> dict[str, object]:
    """An order as an answer tells it."""
    return {
        "order_id": order.pk,
        "client_id": order.client_id,
        "status": str(order.status),
        "amount": order.amount,
        "currency": order.currency,
    }
