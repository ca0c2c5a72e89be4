"""Changes of stock. Rows of stock are always locked in ascending order of product.

A reservation is locked before the stock it holds. Only `expire_due` goes the other way round, and
it never waits for a lock; hence no two of these can wait for each other.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from django.db import connections, transaction
from django.db.models import Sum

from participants.contract.configuration import duration
from participants.contract.outcomes import Refused, unprocessable
from participants.inventory.models import Reservation, ReservationLine, Stock, StockMovement

ALIAS = "inventory"
# Longer than a saga can last with every extension of its deadline.
DEFAULT_HOLD = timedelta(hours=2)
Kind = StockMovement.Kind
Status = Reservation.Status

CHANGE = """
WITH held AS (
    SELECT stock.id, change.quantity, change.reserved
      FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS change (product_id, quantity, reserved)
      JOIN inventory_stock AS stock ON stock.store_id = %s::bigint AND stock.product_id = change.product_id
     ORDER BY stock.product_id
       FOR UPDATE OF stock
)
UPDATE inventory_stock AS stock
   SET quantity = stock.quantity + held.quantity, reserved = stock.reserved + held.reserved
  FROM held
 WHERE stock.id = held.id
"""
RECEIVE = """
INSERT INTO inventory_stock (store_id, product_id, quantity, reserved)
SELECT %s::bigint, product_id, quantity, 0
  FROM unnest(%s::bigint[], %s::bigint[]) AS item (product_id, quantity)
 ORDER BY product_id
ON CONFLICT (store_id, product_id) DO UPDATE
   SET quantity = inventory_stock.quantity + excluded.quantity
"""


def hold() -> timedelta:
    """How long a reservation lasts: PARTICIPANTS["RESERVATION_HOLD"], two hours unless set."""
    return duration("RESERVATION_HOLD", DEFAULT_HOLD)


def locked(store_id: int, products: Iterable[int]) -> dict[int, Stock]:
    """The rows of stock, locked in ascending order; raises Refused for one that does not exist."""
    wanted = sorted(products)
    rows = Stock.objects.select_for_update().filter(store_id=store_id, product_id__in=wanted)
    stock = {row.product_id: row for row in rows.order_by("product_id")}
    require_known(store_id, wanted, stock)
    return stock


def require_known(store_id: int, wanted: Iterable[int], stock: Mapping[int, Stock]) -> None:
    """Raises Refused for the first product that the store does not carry."""
    for product_id in wanted:
        if product_id not in stock:
            raise unprocessable("unknown_product", f"Store {store_id} has no product {product_id}.")


def require_available(stock: Mapping[int, Stock], wanted: Mapping[int, int]) -> None:
    """Raises Refused if less than what is wanted can be promised."""
    for product_id, quantity in wanted.items():
        if stock[product_id].available < quantity:
            raise Refused(
                "insufficient_stock",
                f"Product {product_id}: {quantity} wanted, {stock[product_id].available} available.",
            )


def change(store_id: int, wanted: Mapping[int, int], *, quantity: int = 0, reserved: int = 0) -> None:
    """Lock the rows and move quantity and reserved by `wanted` times these signs (-1, 0 or 1)."""
    columns = [
        list(wanted),
        [quantity * count for count in wanted.values()],
        [reserved * count for count in wanted.values()],
    ]
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(CHANGE, [*columns, store_id])


def receive(store_id: int, wanted: Mapping[int, int]) -> None:
    """Add to stock; a product new to the store gets its row."""
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(RECEIVE, [store_id, list(wanted), list(wanted.values())])


def withdraw(store_id: int, wanted: Mapping[int, int], now: datetime) -> None:
    """Take out of stock what nobody is promised; raises Refused if there is less."""
    require_free(store_id, wanted, now)
    change(store_id, wanted, quantity=-1)


def require_free(store_id: int, wanted: Mapping[int, int], now: datetime) -> None:
    """Lock the stock; raises Refused if less is free even after overdue reservations have expired."""
    rows = locked(store_id, wanted)
    try:
        require_available(rows, wanted)
    except Refused:
        if not expire_due(now, store_id):
            raise
        require_available(locked(store_id, wanted), wanted)


def as_of(now: datetime, store_id: int, products: Iterable[int]) -> dict[int, Stock]:
    """The stock by product, unlocked and not to be saved, without what overdue reservations hold."""
    wanted = list(products)
    stock = {row.product_id: row for row in Stock.objects.filter(store_id=store_id, product_id__in=wanted)}
    if not any(row.reserved for row in stock.values()):
        return stock
    overdue = ReservationLine.objects.filter(
        reservation__store_id=store_id,
        reservation__status=Status.RESERVED,
        reservation__expires_at__lte=now,
        product_id__in=wanted,
    )
    for product_id, held in overdue.values_list("product_id").annotate(Sum("quantity")).order_by():
        if product_id in stock:
            stock[product_id].reserved -= held
    return stock


def note(
    store_id: int, wanted: Mapping[int, int], kind: Kind, sign: int, saga_id: str
) -> list[StockMovement]:
    """Write the movements of a change of quantity."""
    return StockMovement.objects.bulk_create(
        StockMovement(
            store_id=store_id, product_id=product_id, delta=sign * count, kind=kind, saga_id=saga_id
        )
        for product_id, count in wanted.items()
    )


def lines_of(reservation: Reservation) -> dict[int, int]:
    """Quantity per product of a reservation, in ascending order of product."""
    return dict(reservation.lines.order_by("product_id").values_list("product_id", "quantity"))


def expire_due(now: datetime, store_id: int | None = None, limit: int = 100) -> int:
    """Expire overdue reservations and give back what they held; tells how many.

    Skips what others have locked: it will be found next time.
    """
    due = Reservation.objects.select_for_update(skip_locked=True).filter(
        status=Status.RESERVED, expires_at__lte=now
    )
    if store_id is not None:
        due = due.filter(store_id=store_id)
    return sum(expire(reservation) for reservation in due.order_by("expires_at")[:limit])


def expire(reservation: Reservation) -> bool:
    """Expire one locked reservation unless its stock is locked by somebody else."""
    wanted = lines_of(reservation)
    stock = Stock.objects.select_for_update(skip_locked=True).filter(
        store_id=reservation.store_id, product_id__in=wanted
    )
    if len(stock) < len(wanted):
        return False
    change(reservation.store_id, wanted, reserved=-1)
    Reservation.objects.filter(pk=reservation.pk).update(status=Status.EXPIRED)
    return True


def add_lines(reservation: Reservation, wanted: Mapping[int, int]) -> None:
    """Write the lines of a new reservation."""
    ReservationLine.objects.bulk_create(
        ReservationLine(reservation=reservation, product_id=product_id, quantity=quantity)
        for product_id, quantity in wanted.items()
    )


def expire_all_due(now: datetime, batch: int = 100) -> int:
    """Expire every overdue reservation, batch by batch; tells how many."""
    expired = 0
    while True:
        with transaction.atomic(using=ALIAS):
            found = expire_due(now, limit=batch)
        expired += found
        if found < batch:
            return expired
