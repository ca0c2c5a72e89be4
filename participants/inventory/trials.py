"""What the conformance check tries at the inventory, on the demo data."""

from collections.abc import Mapping

from participants.contract.trials import Ask, Trial

GOODS = {"store_id": 1, "items": [{"product_id": 456, "quantity": 1}]}
UNKNOWN = {"items": [{"product_id": 999_999_999, "quantity": 1}]}
STOCK = Ask(operation="check-stock", fields={"store_id": 1, "product_ids": [456]})


def moving(operation: str, undo: str, refused: Mapping[str, object]) -> Trial:
    """An operation that changes the stock of one store."""
    return Trial(operation=operation, fields=GOODS, undo=undo, refused=dict(refused), probe=STOCK)


TRIALS = (
    Trial(operation="check-stock", fields=GOODS, refused=UNKNOWN, query=True),
    moving("reserve-stock", "release-stock", UNKNOWN),
    Trial(
        operation="confirm-stock",
        needs={"reservation_id": ("reserve-stock", "reservation_id")},
        refused={"reservation_id": 999_999_999},
        undo="reverse-stock-confirmation",
        probe=STOCK,
    ),
    moving("restore-stock", "reverse-restore", {"items": []}),
    moving("take-from-source", "return-to-source", UNKNOWN),
    moving("add-to-destination", "remove-from-destination", {"items": []}),
    moving("add-to-store", "remove-from-store", {"items": []}),
)
