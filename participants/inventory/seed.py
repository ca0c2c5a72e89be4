"""Demo data: the stock of two stores, each quantity accounted for by a delivery."""

from collections.abc import Iterator

from django.db.models import Model

from participants.contract.plenty import Draw, Load, Row, Size
from participants.inventory.models import Stock, StockMovement

# 458 is no longer sold, but its last pieces still lie there.
QUANTITIES = {456: 100, 457: 1000, 458: 10}


def rows() -> Iterator[Model]:
    """Stock of products 456 to 458 in stores 1 and 2."""
    number = 0
    for store in (1, 2):
        for product, quantity in QUANTITIES.items():
            number += 1
            yield Stock(id=number, store_id=store, product_id=product, quantity=quantity)
            yield StockMovement(
                id=number,
                store_id=store,
                product_id=product,
                delta=quantity,
                kind=StockMovement.Kind.DELIVERY,
            )


def plenty(size: Size, draw: Draw) -> Iterator[Load]:
    """More stock: every product in every store, here and there none left."""

    def stock() -> Iterator[Row]:
        for store in size.stores:
            for product in size.products:
                left = 0 if draw.chance(2, "sold out", store, product) else 5
                yield store, product, left and left + draw.below(196, "stock", store, product)

    yield Load(
        "store_id bigint, product_id bigint, quantity bigint",
        stock(),
        """
        WITH fresh AS (
            INSERT INTO inventory_stock (store_id, product_id, quantity, reserved)
            SELECT store_id, product_id, quantity, 0 FROM load
            ON CONFLICT DO NOTHING
            RETURNING store_id, product_id, quantity
        ), delivered AS (
            INSERT INTO inventory_stockmovement (store_id, product_id, delta, kind, saga_id)
            SELECT store_id, product_id, quantity, 'DELIVERY', '' FROM fresh WHERE quantity > 0
        )
        SELECT count(*) FROM fresh
        """,
    )
