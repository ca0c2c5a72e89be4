"""What sagas ask of the catalogue."""

from decimal import Decimal

from participants.catalogue.models import Product
from participants.contract.bodies import Body, Identifier, Items, quantities
from participants.contract.outcomes import Outcome, Refused, unprocessable
from participants.contract.service import Call, Service

service = Service("catalogue")


class ProductInfo(Body):
    """One product."""

    product_id: Identifier


class PriceItems(Body):
    """Products and quantities that somebody wants to buy."""

    items: Items


@service.query("product-info", method="GET", argument="product_id")
def product_info(body: ProductInfo, call: Call) -> Outcome:
    """Tell name and price of a product that is still sold."""
    return told(for_sale([body.product_id])[body.product_id])


@service.query("price-items")
def price_items(body: PriceItems, call: Call) -> Outcome:
    """Price a basket; refused if a product is unknown or no longer sold."""
    wanted = quantities(body.items)
    products = for_sale(list(wanted))
    currencies = sorted({product.currency for product in products.values()})
    if len(currencies) > 1:
        return unprocessable("mixed_currencies", f"The basket has prices in {', '.join(currencies)}.")
    lines = [(products[product_id], quantity) for product_id, quantity in wanted.items()]
    return {
        "items": [{**told(product), "quantity": quantity} for product, quantity in lines],
        "total": sum((product.price * quantity for product, quantity in lines), Decimal("0.00")),
        "currency": currencies[0],
    }


def for_sale(wanted: list[int]) -> dict[int, Product]:
    """The products by id; raises Refused for the first that cannot be sold."""
    products = Product.objects.in_bulk(wanted)
    for product_id in wanted:
        if product_id not in products:
            raise unprocessable("unknown_product", f"There is no product {product_id}.")
        if not products[product_id].active:
            raise Refused("product_not_sold", f"Product {product_id} is no longer sold.")
    return products


def told(product: Product) -> dict[str, object]:
    """A product as an answer tells it."""
    return {
        "product_id": product.pk,
        "name": product.name,
        "price": product.price,
        "currency": product.currency,
    }
