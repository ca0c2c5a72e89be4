"""Changes of customers' balances: a guarded statement and the entry that accounts for it."""

from decimal import Decimal
from typing import cast

from django.db import connections

from participants.contract.outcomes import Refused, unprocessable
from participants.transactions.models import BalanceEntry, Customer, Transaction

ALIAS = "transactions"
Kind = BalanceEntry.Kind

MOVE = """
UPDATE transactions_customer SET balance = balance + %s::numeric
 WHERE id = %s::bigint AND currency = %s::text AND balance + %s::numeric >= 0
RETURNING balance
"""


def move(customer_id: int, delta: Decimal, currency: str) -> Decimal:
    """Add to a balance, or take from it, and tell the new one; raises Refused if it is short."""
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(MOVE, [delta, customer_id, currency, delta])
        row = cast(tuple[Decimal] | None, cursor.fetchone())
    if row is None:
        raise why_not(customer_id, delta, currency)
    return row[0]


def enter(transaction: Transaction, delta: Decimal, kind: Kind) -> None:
    """Write the entry of a change that was made."""
    BalanceEntry.objects.create(
        customer_id=transaction.customer_id, transaction=transaction, delta=delta, kind=kind
    )


def why_not(customer_id: int, delta: Decimal, currency: str) -> Refused:
    """The reason for which a balance was not changed."""
    customer = Customer.objects.filter(pk=customer_id).first()
    if customer is None:
        return unprocessable("unknown_customer", f"There is no customer {customer_id}.")
    if customer.currency != currency:
        return unprocessable("wrong_currency", f"Customer {customer_id} has {customer.currency}.")
    return Refused(
        "insufficient_funds", f"Customer {customer_id} has {customer.balance}, {-delta} is needed."
    )
