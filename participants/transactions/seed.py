"""Demo data: a customer with plenty and one with little, each balance accounted for by a deposit."""

from collections.abc import Iterator
from decimal import Decimal

from django.db.models import Model

from participants.transactions.models import BalanceEntry, Customer

BALANCES = {123: ("Dora Lind", Decimal("10000.00")), 124: ("Emil Novak", Decimal("5.00"))}


def rows() -> Iterator[Model]:
    """Customers 123 and 124."""
    for number, (name, balance) in BALANCES.items():
        yield Customer(id=number, name=name, balance=balance)
        yield BalanceEntry(id=number, customer_id=number, delta=balance, kind=BalanceEntry.Kind.DEPOSIT)
