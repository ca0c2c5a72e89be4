"""Stock per store, its movements, and deliveries from suppliers."""

from participants.contract.bodies import Identifier
from participants.contract.offers import Offers, Page, paged
from participants.contract.outcomes import Outcome
from participants.contract.service import Call
from participants.inventory.models import Stock, StockMovement
from participants.inventory.operations import StoreItems, bring_in

offers = Offers("inventory")


class OfStock(Page):
    """Of which store and product; of all unless it says so."""

    store_id: Identifier | None = None
    product_id: Identifier | None = None

    def chosen(self) -> dict[str, int]:
        """The fields to filter by."""
        asked = {"store_id": self.store_id, "product_id": self.product_id}
        return {name: value for name, value in asked.items() if value is not None}


@offers.get("stock")
def list_stock(body: OfStock, call: Call) -> Outcome:
    """Tell the stock per store and product."""
    return paged(Stock.objects.filter(**body.chosen()), body, told)


@offers.get("movements")
def list_movements(body: OfStock, call: Call) -> Outcome:
    """Tell what changed the stock."""
    return paged(StockMovement.objects.filter(**body.chosen()), body, movement_told)


@offers.post("deliveries")
def deliver(body: StoreItems, call: Call) -> Outcome:
    """Put goods from a supplier into the stock of a store."""
    return bring_in(body, call, StockMovement.Kind.DELIVERY)


def told(stock: Stock) -> dict[str, object]:
    """A row of stock as an answer tells it."""
    return {
        "store_id": stock.store_id,
        "product_id": stock.product_id,
        "quantity": stock.quantity,
        "reserved": stock.reserved,
        "available": stock.available,
    }


def movement_told(movement: StockMovement) -> dict[str, object]:
    """A movement as an answer tells it."""
    return {
        "movement_id": movement.pk,
        "store_id": movement.store_id,
        "product_id": movement.product_id,
        "delta": movement.delta,
        "kind": str(movement.kind),
        "saga_id": movement.saga_id,
        "created_at": movement.created_at,
    }
