"""The participants' own books: what must add up in each of them, by SQL and against the sagas.

Each function takes a connection to one participant's database and the sagas by id, and yields what
does not add up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import psycopg

Row = dict[str, Any]
Books = psycopg.Connection[Row]
SALES = frozenset(
    {
        "sales_saga",
        *(f"{patience}_sale{mode}" for patience in ("brisk", "patient") for mode in ("", "_inline")),
    }
)
# How many pieces a completed saga has moved for each that its input asked for.
MOVES = dict.fromkeys([*SALES, "purchase_saga"], -1) | {
    "return_saga": 1,
    "replenishment_saga": 1,
    "transfer_saga": 0,
}


class Known(Protocol):
    """What the books want to know of a saga."""

    row: Row

    @property
    def status(self) -> str: ...
    @property
    def undone(self) -> bool: ...


Sagas = Mapping[str, Known]

MADE = """
    SELECT o.saga_id, t.status
      FROM {table} t
      LEFT JOIN ({service}_operation o JOIN (VALUES {by}) m (operation, field) ON m.operation = o.name)
        ON nullif(o.answer, '')::jsonb #>> ARRAY['data', m.field] = t.id::text
     ORDER BY t.id"""


def made_by(books: Books, service: str, table: str, **by: str) -> dict[str, list[str]]:
    """The statuses of the rows that operations have made, by saga; an empty saga for what nobody made.

    `by`: the operations, with the field of their answer that names the row.
    """
    values = ", ".join(f"('{operation.replace('_', '-')}', '{field}')" for operation, field in by.items())
    found: dict[str, list[str]] = defaultdict(list)
    for row in books.execute(MADE.format(service=service, table=f"{service}_{table}", by=values)):
        found[row["saga_id"] or ""].append(row["status"])
    return found


def one_left(
    what: str, left: Mapping[str, str], gone: set[str], made: dict[str, list[str]], sagas: Sagas
) -> Iterator[str]:
    """Of what a completed saga made one is `left`, by type; of what an undone one made all is `gone`."""
    if made.pop("", []):
        yield f"{what} that no operation accounts for"
    for saga_id, statuses in made.items():
        saga = sagas[saga_id]
        kept = [status for status in statuses if status not in gone]
        if saga.undone and kept:
            yield f"saga {saga_id} is {saga.status} but its {what} is {kept}"
        if saga.status == "completed" and kept != [left.get(saga.row["type"])]:
            yield f"saga {saga_id} has completed but its {what} is {statuses}"


def sums_differ(books: Books, account: str, entry: str, of: str) -> Iterator[str]:
    """Balances that are not the sum of their entries."""
    asked = f"""SELECT a.id, a.balance, coalesce(sum(e.delta), 0) AS entered
                  FROM {account} a LEFT JOIN {entry} e ON e.{of} = a.id
                 GROUP BY a.id HAVING a.balance <> coalesce(sum(e.delta), 0)"""  # noqa: S608 - names of ours
    for row in books.execute(asked):
        yield f"the balance does not add up: {row}"


def personnel(books: Books, sagas: Sagas) -> Iterator[str]:
    """Sessions: one open for each completed sale or transfer, none for an undone one."""
    made = made_by(books, "personnel", "worksession", validate_employee="session_id")
    left = dict.fromkeys([*SALES, "transfer_saga"], "OPEN")
    yield from one_left("session", left, {"INVALIDATED"}, made, sagas)


def inventory(books: Books, sagas: Sagas) -> Iterator[str]:
    """Stock is the sum of its movements, and what is reserved the sum of open reservations."""
    for row in books.execute(
        """SELECT s.store_id, s.product_id, s.quantity, s.reserved,
                  (SELECT coalesce(sum(m.delta), 0) FROM inventory_stockmovement m
                    WHERE m.store_id = s.store_id AND m.product_id = s.product_id) AS moved,
                  (SELECT coalesce(sum(l.quantity), 0) FROM inventory_reservationline l
                     JOIN inventory_reservation r ON r.id = l.reservation_id AND r.status = 'RESERVED'
                    WHERE r.store_id = s.store_id AND l.product_id = s.product_id) AS held
             FROM inventory_stock s"""
    ):
        if row["quantity"] != row["moved"] or row["reserved"] != row["held"]:
            yield f"the stock does not add up: {row}"
    made = made_by(books, "inventory", "reservation", reserve_stock="reservation_id")
    left = dict.fromkeys([*SALES, "purchase_saga"], "CONFIRMED")
    left |= dict.fromkeys(["checkout_saga", "order_saga"], "RESERVED")
    yield from one_left("reservation", left, {"RELEASED", "EXPIRED"}, made, sagas)
    for row in books.execute(
        """SELECT saga_id, sum(delta)::bigint AS moved FROM inventory_stockmovement
            WHERE saga_id <> '' GROUP BY saga_id"""
    ):
        saga = sagas[row["saga_id"]]
        if saga.undone and row["moved"]:
            yield f"saga {row['saga_id']} is {saga.status} but has moved {row['moved']} pieces"
        if saga.status == "completed":
            asked = sum(item["quantity"] for item in saga.row["data"]["items"]) * MOVES[saga.row["type"]]
            if row["moved"] != asked:
                yield f"saga {row['saga_id']} moved {row['moved']} pieces, not {asked}"


def transactions(books: Books, sagas: Sagas) -> Iterator[str]:
    """Balances are the sums of their entries; an undone sale has cost nothing, a completed one its price."""
    yield from sums_differ(books, "transactions_customer", "transactions_balanceentry", "customer_id")
    made = made_by(
        *(books, "transactions", "transaction"),
        create_transaction="transaction_id",
        create_sale="sale_id",
        create_return="return_transaction_id",
    )
    left = dict.fromkeys([*SALES, "purchase_saga", "return_saga"], "CONFIRMED")
    yield from one_left("transaction", left, {"CANCELLED"}, made, sagas)
    for row in books.execute(
        """SELECT t.saga_id, abs(sum(e.delta)) AS paid,
                  coalesce(sum(DISTINCT t.amount) FILTER (WHERE t.status = 'CONFIRMED'), 0) AS price
             FROM transactions_transaction t JOIN transactions_balanceentry e ON e.transaction_id = t.id
            GROUP BY t.saga_id"""
    ):
        saga = sagas[row["saga_id"]]
        owed = 0 if saga.undone else row["price"]
        if saga.status in ("completed", "compensated", "failed") and row["paid"] != owed:
            yield f"saga {row['saga_id']} is {saga.status} but {row['paid']} has changed hands, not {owed}"


def payments(books: Books, sagas: Sagas) -> Iterator[str]:
    """Balances are the sums of their entries; an undone saga has paid and refunded nothing."""
    yield from sums_differ(books, "payments_account", "payments_accountentry", "account_id")
    made = made_by(books, "payments", "payment", process_payment="payment_id")
    left = {"purchase_saga": "PAID", "order_saga": "PAID"}
    yield from one_left("payment", left, {"CANCELLED"}, made, sagas)
    made = made_by(books, "payments", "refund", process_refund="refund_id")
    yield from one_left("refund", {"return_saga": "DONE"}, {"REVERSED"}, made, sagas)


def orders(books: Books, sagas: Sagas) -> Iterator[str]:
    """Orders: one for each completed checkout or order, none for an undone one."""
    made = made_by(books, "orders", "order", create_order="order_id")
    left = {"checkout_saga": "CREATED", "order_saga": "CREATED"}
    yield from one_left("order", left, {"CANCELLED"}, made, sagas)


def supply_chain(books: Books, sagas: Sagas) -> Iterator[str]:
    """Requests: approved for a completed replenishment, open again for an undone one, kept if rejected."""
    made = made_by(books, "supply_chain", "replenishmentrequest", approve_request="request_id")
    made[""] = [status for status in made[""] if status != "REJECTED"]
    yield from one_left("request", {"replenishment_saga": "APPROVED"}, {"REQUESTED", "REJECTED"}, made, sagas)


def notifications(books: Books, sagas: Sagas) -> Iterator[str]:
    """Messages: a completed order has confirmed itself; an undone one has taken every confirmation back."""
    for row in books.execute(
        """SELECT saga_id, count(*) FILTER (WHERE kind = 'CONFIRMATION') AS sent,
                  count(*) FILTER (WHERE kind = 'CANCELLATION') AS withdrawn
             FROM notifications_message GROUP BY saga_id"""
    ):
        saga = sagas[row["saga_id"]]
        standing = row["sent"] - row["withdrawn"]
        if saga.status in ("completed", "compensated", "failed") and standing != (not saga.undone):
            yield f"saga {row['saga_id']} is {saga.status} with {row['sent']} - {row['withdrawn']} messages"


LEDGERS: Mapping[str, Callable[[Books, Sagas], Iterator[str]]] = {
    "personnel": personnel,
    "inventory": inventory,
    "transactions": transactions,
    "payments": payments,
    "orders": orders,
    "supply_chain": supply_chain,
    "notifications": notifications,
}
