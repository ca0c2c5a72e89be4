"""Demo data: the accounts of a customer with plenty and of one with little."""

from collections.abc import Iterator
from decimal import Decimal

from django.db.models import Model

from participants.payments.models import Account, AccountEntry

BALANCES = {123: Decimal("10000.00"), 124: Decimal("5.00")}


def rows() -> Iterator[Model]:
    """Accounts 123 and 124, each balance accounted for by a deposit."""
    for number, balance in BALANCES.items():
        yield Account(id=number, balance=balance)
        yield AccountEntry(id=number, account_id=number, delta=balance, kind=AccountEntry.Kind.DEPOSIT)
