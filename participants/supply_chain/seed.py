"""Demo data: what lies in the centre."""

from collections.abc import Iterator

from django.db.models import Model

from participants.contract.plenty import Draw, Load, Row, Size
from participants.supply_chain.models import CentralStock


def rows() -> Iterator[Model]:
    """Plenty of 456 and 457."""
    yield CentralStock(id=1, product_id=456, quantity=1000)
    yield CentralStock(id=2, product_id=457, quantity=5000)


def plenty(size: Size, draw: Draw) -> Iterator[Load]:
    """More in the centre: enough of every product for a while."""

    def stock() -> Iterator[Row]:
        for product in size.products:
            yield product, 1_000 + draw.below(9_000, "centre", product), 500

    yield Load(
        'product_id bigint, quantity bigint, "limit" bigint',
        stock(),
        'INSERT INTO supply_chain_centralstock (product_id, quantity, "limit") '
        "SELECT * FROM load ON CONFLICT DO NOTHING",
    )
