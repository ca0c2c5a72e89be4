"""The range of products: added, repriced, archived."""

from typing import Annotated

from pydantic import Field

from participants.catalogue import operations
from participants.catalogue.models import Product
from participants.contract.bodies import Body, Currency, Identifier, Money
from participants.contract.offers import Missing, Offers, Page, paged
from participants.contract.outcomes import Outcome
from participants.contract.service import Call

offers = Offers("catalogue")
Name = Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[^\x00]*$")]


class Products(Page):
    """Which products; all unless it says whether they are still sold."""

    active: bool | None = None


class OneProduct(Body):
    """A product by its id."""

    product_id: Identifier


class NewProduct(Body):
    """What a product is called, and what it costs."""

    name: Name
    price: Money
    currency: Currency = "EUR"


class NewPrice(OneProduct):
    """What a product costs from now on."""

    price: Money


@offers.get("products")
def list_products(body: Products, call: Call) -> Outcome:
    """List products."""
    chosen = Product.objects.all()
    if body.active is not None:
        chosen = chosen.filter(active=body.active)
    return paged(chosen, body, told)


@offers.post("products")
def add_product(body: NewProduct, call: Call) -> Outcome:
    """Add a product, which is sold from now on."""
    return told(Product.objects.create(name=body.name, price=body.price, currency=body.currency))


@offers.get("products/{product_id}")
def show_product(body: OneProduct, call: Call) -> Outcome:
    """Show a product, whether it is still sold or not."""
    return told(existing(body.product_id))


@offers.put("products/{product_id}/price")
def reprice(body: NewPrice, call: Call) -> Outcome:
    """Change a price; baskets that were priced before keep theirs."""
    product = existing(body.product_id, lock=True)
    product.price = body.price
    product.save(update_fields=["price"])
    return told(product)


@offers.post("products/{product_id}/archive", success_status=200)
def archive(body: OneProduct, call: Call) -> Outcome:
    """Stop selling a product; what was sold of it can still be returned."""
    product = existing(body.product_id, lock=True)
    product.active = False
    product.save(update_fields=["active"])
    return told(product)


def existing(product_id: int, *, lock: bool = False) -> Product:
    """The product; raises Missing."""
    chosen = Product.objects.select_for_update() if lock else Product.objects.all()
    product = chosen.filter(pk=product_id).first()
    if product is None:
        raise Missing("unknown_product", f"There is no product {product_id}.")
    return product


def told(product: Product) -> dict[str, object]:
    """A product as an answer tells it."""
    return {**operations.told(product), "active": product.active}
