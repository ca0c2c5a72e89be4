"""Demo data: what lies in the centre."""

from collections.abc import Iterator

from django.db.models import Model

from participants.supply_chain.models import CentralStock


def rows() -> Iterator[Model]:
    """Plenty of 456 and 457."""
    yield CentralStock(id=1, product_id=456, quantity=1000)
    yield CentralStock(id=2, product_id=457, quantity=5000)
