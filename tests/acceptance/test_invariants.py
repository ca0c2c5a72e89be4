"""The function that judges all the other tests must find what is wrong."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql

from tests.acceptance.world import Fault, World
from tests.invariants import assert_invariants

BOOKS = {
    "money": ("transactions", "UPDATE transactions_customer SET balance = balance + %s WHERE id = 123"),
    "stock": ("inventory", "UPDATE inventory_stock SET quantity = quantity + %s WHERE product_id = 456"),
    "hold": ("inventory", "UPDATE inventory_stock SET reserved = reserved + %s WHERE product_id = 456"),
}
# Of a sale that was undone: the table, its column, and the value that would be left of an effect.
LEFT = {
    "reservation": ("inventory", "inventory_reservation", "status", "CONFIRMED"),
    "transaction": ("transactions", "transactions_transaction", "status", "CONFIRMED"),
    "movement": ("inventory", "inventory_stockmovement", "delta", "-7"),
    "key": ("inventory", "inventory_operation", "state", "completed"),
    "saga": ("default", "sagas_saga", "status", "parked"),
    "end": ("default", "sagas_saga", "finished_at", None),
    "step": ("default", "sagas_sagastep", "status", "in_progress"),
}


@contextmanager
def tampered(url: str, table: str, column: str, value: str | None) -> Iterator[None]:
    """With another value in the last row of a table (the last action, of keys)."""
    names = {"table": sql.Identifier(table), "column": sql.Identifier(column)}
    actions = "WHERE state = 'undone'" if table.endswith("_operation") else ""
    last = f"SELECT id, {{column}} FROM {{table}} {actions} ORDER BY id DESC LIMIT 1"  # noqa: S608  names of ours
    change = sql.SQL("UPDATE {table} SET {column} = %s WHERE id = %s").format(**names)
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(sql.SQL(last).format(**names)).fetchone()
        assert row is not None
        connection.execute(change, (value, row[0]))
        try:
            yield
        finally:
            connection.execute(change, (row[1], row[0]))


@pytest.mark.parametrize("what", BOOKS)
def test_books_that_do_not_add_up_are_found(world: World, what: str) -> None:
    alias, statement = BOOKS[what]
    with psycopg.connect(world.databases[alias], autocommit=True) as connection:
        connection.execute(statement, (1,))
        try:
            with pytest.raises(AssertionError, match="does not add up"):
                assert_invariants(world.databases, world.alerted())
        finally:
            connection.execute(statement, (-1,))


@pytest.mark.parametrize("what", LEFT)
def test_what_is_left_of_an_undone_sale_is_found(world: World, what: str) -> None:
    alias, table, column, value = LEFT[what]
    sale = world.sale(Fault("confirm-transaction", "refuse"))
    assert world.ended(sale)["status"] == "compensated"
    with (
        tampered(world.databases[alias], table, column, value),
        pytest.raises(AssertionError),
    ):
        assert_invariants(world.databases, world.alerted())
