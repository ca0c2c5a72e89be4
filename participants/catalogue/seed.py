"""Demo data: two products that are sold and one that no longer is."""

from collections.abc import Iterator
from decimal import Decimal

from django.db.models import Model

from participants.catalogue.models import Product


def rows() -> Iterator[Model]:
    """Products 456 to 458."""
    yield Product(id=456, name="Desk lamp", price=Decimal("29.99"))
    yield Product(id=457, name="Notebook", price=Decimal("5.00"))
    yield Product(id=458, name="Fountain pen", price=Decimal("12.50"), active=False)
