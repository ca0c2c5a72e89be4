"""Demo data: the accounts of a customer with plenty and of one with little."""

from collections.abc import Iterator
from decimal import Decimal

from django.db.models import Model

from participants.contract.plenty import Draw, Load, Row, Size
from participants.payments.models import Account, AccountEntry

BALANCES = {123: Decimal("10000.00"), 124: Decimal("5.00")}


def rows() -> Iterator[Model]:
    """Accounts 123 and 124, each balance accounted for by a deposit."""
    for number, balance in BALANCES.items():
        yield Account(id=number, balance=balance)
        yield AccountEntry(id=number, account_id=number, delta=balance, kind=AccountEntry.Kind.DEPOSIT)


def plenty(size: Size, draw: Draw) -> Iterator[Load]:
    """More accounts, nearly all with funds."""

    def accounts() -> Iterator[Row]:
        for customer in size.customers:
            empty = draw.chance(2, "empty", customer)
            yield customer, 0 if empty else draw.money(20, 5_000, "account", customer)

    yield Load(
        "id bigint, balance numeric",
        accounts(),
        """
        WITH fresh AS (
            INSERT INTO payments_account (id, balance, currency)
            SELECT id, balance, 'EUR' FROM load
            ON CONFLICT DO NOTHING
            RETURNING id, balance
        ), deposited AS (
            INSERT INTO payments_accountentry (account_id, delta, kind)
            SELECT id, balance, 'DEPOSIT' FROM fresh WHERE balance > 0
        )
        SELECT count(*) FROM fresh
        """,
    )
