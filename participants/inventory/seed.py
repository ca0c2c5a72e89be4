"""Demo data: the stock of two stores, each quantity accounted for by a delivery."""

from collections.abc import Iterator

from django.db.models import Model

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
