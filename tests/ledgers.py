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
SALES = frozenset({"sales_saga", "brisk_sale", "patient_sale"})


class Known(Protocol):
    """What the books want to know of a saga."""

    row: Row

    @property
    def status(self) -> str: ...
    @property
    def undone(self) -> bool: ...


Sagas = Mapping[str, Known]

MADE = """
    SELECT o.saga_id, (o.answer::jsonb #>> '{{data,{field}}}')::bigint AS made, t.status
      FROM {table} t LEFT JOIN {service}_operation o
        ON o.name = '{operation}' AND o.answer <> ''
       AND o.answer::jsonb #>> '{{data,{field}}}' = t.id::text
     ORDER BY t.id"""


def made_by(books: Books, service: str, table: str, operation: str, field: str) -> dict[str, list[str]]:
    """The statuses of what an operation has made, by saga; an empty saga for what nobody made."""
    asked = MADE.format(service=service, table=table, operation=operation, field=field)
    found: dict[str, list[str]] = defaultdict(list)
    for row in books.execute(asked):
        found[row["saga_id"] or ""].append(row["status"])
    return found


def one_left(what: str, left: str, gone: set[str], made: dict[str, list[str]], sagas: Sagas) -> Iterator[str]:
    """Of what a completed sale made one is `left`; of what an undone one made all is `gone`."""
    if made.pop("", None):
        yield f"{what} that no operation accounts for"
    for saga_id, statuses in made.items():
        saga = sagas[saga_id]
        kept = [status for status in statuses if status not in gone]
        if saga.undone and kept:
            yield f"saga {saga_id} is {saga.status} but its {what} is {kept}"
        if saga.status == "completed" and saga.row["type"] in SALES and kept != [left]:
            yield f"saga {saga_id} has completed but its {what} is {statuses}"


def personnel(books: Books, sagas: Sagas) -> Iterator[str]:
    """Sessions: one open for each completed sale, none for an undone one."""
    made = made_by(books, "personnel", "personnel_worksession", "validate-employee", "session_id")
    yield from one_left("session", "OPEN", {"INVALIDATED"}, made, sagas)


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
    made = made_by(books, "inventory", "inventory_reservation", "reserve-stock", "reservation_id")
    yield from one_left("reservation", "CONFIRMED", {"RELEASED", "EXPIRED"}, made, sagas)
    for row in books.execute(
        """SELECT saga_id, sum(delta)::bigint AS moved FROM inventory_stockmovement
            WHERE saga_id <> '' GROUP BY saga_id"""
    ):
        saga = sagas[row["saga_id"]]
        if saga.undone and row["moved"]:
            yield f"saga {row['saga_id']} is {saga.status} but has moved {row['moved']} pieces"
        if saga.status == "completed" and saga.row["type"] in SALES:
            sold = sum(item["quantity"] for item in saga.row["data"]["items"])
            if row["moved"] != -sold:
                yield f"saga {row['saga_id']} sold {sold} pieces but moved {row['moved']}"


def transactions(books: Books, sagas: Sagas) -> Iterator[str]:
    """Balances are the sums of their entries; an undone sale has cost nothing, a completed one its price."""
    for row in books.execute(
        """SELECT c.id, c.balance,
                  (SELECT coalesce(sum(e.delta), 0) FROM transactions_balanceentry e
                    WHERE e.customer_id = c.id) AS entered
             FROM transactions_customer c"""
    ):
        if row["balance"] != row["entered"]:
            yield f"the balance does not add up: {row}"
    made = made_by(books, "transactions", "transactions_transaction", "create-transaction", "transaction_id")
    yield from one_left("transaction", "CONFIRMED", {"CANCELLED"}, made, sagas)
    for row in books.execute(
        """SELECT t.saga_id, sum(e.delta) AS paid,
                  coalesce(sum(t.amount) FILTER (WHERE t.status = 'CONFIRMED' AND e.delta < 0), 0) AS price
             FROM transactions_transaction t JOIN transactions_balanceentry e ON e.transaction_id = t.id
            GROUP BY t.saga_id"""
    ):
        saga = sagas[row["saga_id"]]
        owed = 0 if saga.undone else -row["price"]
        if saga.status in ("completed", "compensated", "failed") and row["paid"] != owed:
            yield f"saga {row['saga_id']} is {saga.status} but its customer has paid {row['paid']}"


LEDGERS: Mapping[str, Callable[[Books, Sagas], Iterator[str]]] = {
    "personnel": personnel,
    "inventory": inventory,
    "transactions": transactions,
}
