"""Carts and delivery addresses that a checkout is made from, and the orders that came of it."""

from typing import Annotated

from django.db.models import Prefetch, QuerySet
from pydantic import Field

from participants.contract.bodies import Body, Identifier, Item, Quantity, quantities
from participants.contract.offers import Missing, Offers, Page, paged
from participants.contract.outcomes import Outcome, Refused
from participants.contract.service import Call
from participants.orders import operations
from participants.orders.models import Address, Cart, CartLine, Order, OrderLine

offers = Offers("orders")
MOST_LINES = 200
NO_NULLS = r"^[^\x00]*$"
Short = Annotated[str, Field(min_length=1, max_length=120, pattern=NO_NULLS)]


class OfClient(Page):
    """What belongs to one client."""

    client_id: Identifier


class NewAddress(Body):
    """Where goods are to be brought."""

    client_id: Identifier
    recipient: Short
    street: Annotated[str, Field(min_length=1, max_length=200, pattern=NO_NULLS)]
    postcode: Annotated[str, Field(min_length=1, max_length=16, pattern=NO_NULLS)]
    city: Short
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")]


class OneAddress(Body):
    """An address by its id."""

    address_id: Identifier


class NewCart(Body):
    """Whose cart, for which store, and what is in it at first."""

    client_id: Identifier
    store_id: Identifier
    items: Annotated[list[Item], Field(max_length=MOST_LINES)] = Field(default_factory=list)


class OneCart(Body):
    """A cart by its id."""

    cart_id: Identifier


class Checkout(OneCart):
    """A cart, and where its goods are to be brought."""

    address_id: Identifier | None = None


class CartItem(OneCart):
    """One product of a cart."""

    product_id: Identifier


class PutItem(CartItem):
    """How many of one product are wanted."""

    quantity: Quantity


class OneOrder(Body):
    """An order by its id."""

    order_id: Identifier


@offers.get("addresses")
def list_addresses(body: OfClient, call: Call) -> Outcome:
    """List a client's delivery addresses."""
    return paged(Address.objects.filter(client_id=body.client_id), body, address_told)


@offers.post("addresses")
def add_address(body: NewAddress, call: Call) -> Outcome:
    """Add a delivery address."""
    return address_told(Address.objects.create(**body.model_dump()))


@offers.delete("addresses/{address_id}")
def remove_address(body: OneAddress, call: Call) -> Outcome:
    """Remove a delivery address; orders keep what it was."""
    removed, _ = Address.objects.filter(pk=body.address_id).delete()
    if not removed:
        raise Missing("unknown_address", f"There is no address {body.address_id}.")
    return {"address_id": body.address_id}


@offers.get("carts")
def list_carts(body: OfClient, call: Call) -> Outcome:
    """List a client's carts, the ordered ones too."""
    chosen = Cart.objects.filter(client_id=body.client_id).prefetch_related("lines")
    return paged(chosen, body, cart_told)


@offers.post("carts")
def begin_cart(body: NewCart, call: Call) -> Outcome:
    """Begin a cart."""
    cart = Cart.objects.create(client_id=body.client_id, store_id=body.store_id, created_at=call.now)
    CartLine.objects.bulk_create(
        CartLine(cart=cart, product_id=product_id, quantity=quantity)
        for product_id, quantity in quantities(body.items).items()
    )
    return cart_told(cart)


@offers.get("carts/{cart_id}")
def show_cart(body: OneCart, call: Call) -> Outcome:
    """Show a cart."""
    return cart_told(existing(body.cart_id))


@offers.put("carts/{cart_id}/items/{product_id}")
def put_item(body: PutItem, call: Call) -> Outcome:
    """Say how many of a product are in a cart."""
    cart = still_open(body.cart_id)
    CartLine.objects.update_or_create(
        cart=cart, product_id=body.product_id, defaults={"quantity": body.quantity}
    )
    if cart.lines.count() > MOST_LINES:
        raise Refused("cart_full", f"A cart holds at most {MOST_LINES} products.")
    return cart_told(cart)


@offers.delete("carts/{cart_id}/items/{product_id}")
def remove_item(body: CartItem, call: Call) -> Outcome:
    """Take a product out of a cart."""
    cart = still_open(body.cart_id)
    cart.lines.filter(product_id=body.product_id).delete()
    return cart_told(cart)


@offers.get("carts/{cart_id}/checkout")
def prepare_checkout(body: Checkout, call: Call) -> Outcome:
    """Make the input of a checkout from a cart and a delivery address."""
    cart = existing(body.cart_id)
    if cart.order_id is not None:
        raise Refused("cart_closed", f"Cart {cart.pk} was ordered as order {cart.order_id}.")
    items = items_of(cart)
    if not items:
        raise Refused("cart_empty", f"Cart {cart.pk} is empty.")
    checkout = {"client_id": cart.client_id, "store_id": cart.store_id, "items": items, "cart_id": cart.pk}
    if body.address_id is None:
        return checkout
    if not Address.objects.filter(pk=body.address_id, client_id=cart.client_id).exists():
        raise Missing("unknown_address", f"Client {cart.client_id} has no address {body.address_id}.")
    return {**checkout, "address_id": body.address_id}


@offers.get("orders")
def list_orders(body: OfClient, call: Call) -> Outcome:
    """List a client's orders."""
    return paged(with_lines().filter(client_id=body.client_id), body, order_told)


@offers.get("orders/{order_id}")
def show_order(body: OneOrder, call: Call) -> Outcome:
    """Show an order."""
    order = with_lines().filter(pk=body.order_id).first()
    if order is None:
        raise Missing("unknown_order", f"There is no order {body.order_id}.")
    return order_told(order)


def existing(cart_id: int, *, lock: bool = False) -> Cart:
    """The cart; raises Missing."""
    chosen = Cart.objects.select_for_update() if lock else Cart.objects.all()
    cart = chosen.filter(pk=cart_id).first()
    if cart is None:
        raise Missing("unknown_cart", f"There is no cart {cart_id}.")
    return cart


def still_open(cart_id: int) -> Cart:
    """The cart, locked; raises Refused if it was ordered."""
    cart = existing(cart_id, lock=True)
    if cart.order_id is not None:
        raise Refused("cart_closed", f"Cart {cart.pk} was ordered as order {cart.order_id}.")
    return cart


def items_of(cart: Cart) -> list[dict[str, int]]:
    """What is in a cart, in order of product."""
    lines = sorted(cart.lines.all(), key=lambda line: line.product_id)
    return [{"product_id": line.product_id, "quantity": line.quantity} for line in lines]


def with_lines() -> QuerySet[Order]:
    """Orders with their lines in order."""
    return Order.objects.prefetch_related(Prefetch("lines", OrderLine.objects.order_by("pk")))


def address_told(address: Address) -> dict[str, object]:
    """An address as an answer tells it."""
    return {
        "address_id": address.pk,
        "client_id": address.client_id,
        "recipient": address.recipient,
        "street": address.street,
        "postcode": address.postcode,
        "city": address.city,
        "country": address.country,
    }


def cart_told(cart: Cart) -> dict[str, object]:
    """A cart as an answer tells it."""
    return {
        "cart_id": cart.pk,
        "client_id": cart.client_id,
        "store_id": cart.store_id,
        "order_id": cart.order_id,
        "items": items_of(cart),
    }


def order_told(order: Order) -> dict[str, object]:
    """An order as an answer tells it."""
    return {
        **operations.told(order),
        "store_id": order.store_id,
        "delivery_address": order.delivery_address,
        "created_at": order.created_at,
        "items": [
            {"product_id": line.product_id, "quantity": line.quantity, "price": line.price}
            for line in order.lines.all()
        ],
    }
