"""Demo data: a customer with plenty and one with little, each balance accounted for by a deposit."""

from collections.abc import Iterator
from decimal import Decimal

from django.db.models import Model

from participants.contract.plenty import Draw, Load, Row, Size
from participants.transactions.models import BalanceEntry, Customer

BALANCES = {123: ("Dora Lind", Decimal("10000.00")), 124: ("Emil Novak", Decimal("5.00"))}


def rows() -> Iterator[Model]:
    """Customers 123 and 124."""
    for number, (name, balance) in BALANCES.items():
        yield Customer(id=number, name=name, balance=balance)
        yield BalanceEntry(id=number, customer_id=number, delta=balance, kind=BalanceEntry.Kind.DEPOSIT)


def plenty(size: Size, draw: Draw) -> Iterator[Load]:
    """More customers, nearly all with funds."""

    def customers() -> Iterator[Row]:
        for customer in size.customers:
            name = draw.person(customer)
            balance = 0 if draw.chance(2, "broke", customer) else draw.money(20, 5_000, "balance", customer)
            yield customer, name, balance

    yield Load(
        "id bigint, name text, balance numeric",
        customers(),
        """
        WITH fresh AS (
            INSERT INTO transactions_customer (id, name, balance, currency)
            SELECT id, name, balance, 'EUR' FROM load
            ON CONFLICT DO NOTHING
            RETURNING id, balance
        ), deposited AS (
            INSERT INTO transactions_balanceentry (customer_id, delta, kind)
            SELECT id, balance, 'DEPOSIT' FROM fresh WHERE balance > 0
        )
        SELECT count(*) FROM fresh
        """,
    )
