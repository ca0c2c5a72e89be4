"""Demo data: two products that are sold and one that no longer is."""

from collections.abc import Iterator
from decimal import Decimal

from django.db.models import Model

from participants.catalogue.models import Product
from participants.contract.plenty import Draw, Load, Row, Size

LOOKS = ("Oak", "Steel", "Linen", "Blue", "Small", "Folding", "Glass", "Bamboo", "Classic", "Travel")
THINGS = ("lamp", "notebook", "chair", "mug", "shelf", "blanket", "vase", "clock", "basket", "tray")


def rows() -> Iterator[Model]:
    """Products 456 to 458."""
    yield Product(id=456, name="Desk lamp", price=Decimal("29.99"))
    yield Product(id=457, name="Notebook", price=Decimal("5.00"))
    yield Product(id=458, name="Fountain pen", price=Decimal("12.50"), active=False)


def plenty(size: Size, draw: Draw) -> Iterator[Load]:
    """More products; most cost little, and a few are no longer sold."""

    def products() -> Iterator[Row]:
        for product in size.products:
            looks, thing = draw.one_of(LOOKS, "looks", product), draw.one_of(THINGS, "thing", product)
            dear = draw.one_of((10, 30, 100, 500), "dear", product)
            price = draw.money(1, dear, "price", product)
            yield product, f"{looks} {thing} {product}", price, "EUR", not draw.chance(3, "gone", product)

    yield Load(
        "id bigint, name text, price numeric, currency text, active boolean",
        products(),
        "INSERT INTO catalogue_product (id, name, price, currency, active) "
        "SELECT * FROM load ON CONFLICT DO NOTHING",
    )
