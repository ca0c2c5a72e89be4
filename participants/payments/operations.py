"""What sagas ask of payments."""

from decimal import Decimal
from typing import cast

from django.db import connections
from django.db.models import F

from participants.contract.bodies import Body, Currency, Identifier, Label, Money, PositiveMoney
from participants.contract.outcomes import Outcome, Refused, unprocessable
from participants.contract.service import Call, Recorded, Service
from participants.payments.models import Account, AccountEntry, Payment, Refund

service = Service("payments")
Kind = AccountEntry.Kind

MOVE = """
UPDATE payments_account SET balance = balance + %s::numeric
 WHERE id = %s::bigint AND currency = %s::text AND balance + %s::numeric >= 0
RETURNING balance
"""


class ProcessPayment(Body):
    """An amount that a customer is to pay."""

    customer_id: Identifier
    amount: PositiveMoney
    currency: Currency = "EUR"
    payment_method: Label = "account"


class ProcessRefund(Body):
    """An amount of a payment that is given back; nothing for goods that were free."""

    payment_id: Identifier
    amount: Money
    return_transaction_id: Identifier | None = None


@service.action("process-payment")
def process_payment(body: ProcessPayment, call: Call) -> Outcome:
    """Take an amount from the customer's account."""
    balance = move(body.customer_id, -body.amount, body.currency)
    payment = Payment.objects.create(
        account_id=body.customer_id,
        amount=body.amount,
        currency=body.currency,
        method=body.payment_method,
        saga_id=call.saga_id,
        created_at=call.now,
    )
    enter(payment, -body.amount, Kind.PAYMENT)
    return {**told(payment), "balance": balance}


@service.compensation("refund-payment", undoes="process-payment")
def refund_payment(done: Recorded, call: Call) -> Outcome:
    """Give a whole payment back; refused once part of it was refunded for a return."""
    payment = Payment.objects.select_for_update().get(pk=done["payment_id"])
    if payment.refunded:
        return Refused("already_refunded", f"{payment.refunded} of payment {payment.pk} was refunded.")
    payment.status = Payment.Status.CANCELLED
    payment.save(update_fields=["status"])
    balance = move(payment.account_id, payment.amount, payment.currency)
    enter(payment, payment.amount, Kind.PAYMENT_UNDONE)
    return {**told(payment), "balance": balance}


@service.action("process-refund")
def process_refund(body: ProcessRefund, call: Call) -> Outcome:
    """Give part of a payment back for a return, never more than was paid, once for each return."""
    payment = Payment.objects.select_for_update().filter(pk=body.payment_id).first()
    if payment is None:
        return unprocessable("unknown_payment", f"There is no payment {body.payment_id}.")
    if payment.status != Payment.Status.PAID:
        return Refused("payment_not_paid", f"Payment {payment.pk} is {payment.status}.")
    if payment.refunded + body.amount > payment.amount:
        left = payment.amount - payment.refunded
        return Refused("more_than_paid", f"{left} of payment {payment.pk} can be refunded.")
    if is_refunded(body.return_transaction_id):
        return Refused("already_refunded", f"Return {body.return_transaction_id} is refunded already.")
    refund = Refund.objects.create(
        payment=payment,
        return_transaction_id=body.return_transaction_id,
        amount=body.amount,
        created_at=call.now,
    )
    Payment.objects.filter(pk=payment.pk).update(refunded=F("refunded") + body.amount)
    balance = move(payment.account_id, body.amount, payment.currency)
    enter(payment, body.amount, Kind.REFUND)
    return {
        "refund_id": refund.pk,
        "payment_id": payment.pk,
        "amount": refund.amount,
        "currency": payment.currency,
        "balance": balance,
    }


@service.compensation("reverse-refund", undoes="process-refund")
def reverse_refund(done: Recorded, call: Call) -> Outcome:
    """Take a refund back from the account; refused if the account is short by now."""
    payment = Payment.objects.select_for_update().get(pk=done["payment_id"])
    refund = Refund.objects.get(pk=done["refund_id"])
    balance = move(payment.account_id, -refund.amount, payment.currency)
    enter(payment, -refund.amount, Kind.REFUND_REVERSED)
    Payment.objects.filter(pk=payment.pk).update(refunded=F("refunded") - refund.amount)
    refund.status = Refund.Status.REVERSED
    refund.save(update_fields=["status"])
    return {"refund_id": refund.pk, "status": Refund.Status.REVERSED.value, "balance": balance}


def move(account_id: int, delta: Decimal, currency: str) -> Decimal:
    """Add to a balance, or take from it, and tell the new one; raises Refused if it is short."""
    with connections[service.name].cursor() as cursor:
        cursor.execute(MOVE, [delta, account_id, currency, delta])
        row = cast(tuple[Decimal] | None, cursor.fetchone())
    if row is None:
        raise why_not(account_id, delta, currency)
    return row[0]


def why_not(account_id: int, delta: Decimal, currency: str) -> Refused:
    """The reason for which a balance was not changed."""
    account = Account.objects.filter(pk=account_id).first()
    if account is None:
        return unprocessable("unknown_customer", f"There is no customer {account_id}.")
    if account.currency != currency:
        return unprocessable("wrong_currency", f"Customer {account_id} has {account.currency}.")
    return Refused("insufficient_funds", f"Customer {account_id} has {account.balance}, {-delta} is needed.")


def enter(payment: Payment, delta: Decimal, kind: Kind) -> None:
    """Write the entry of a change that was made."""
    AccountEntry.objects.create(account_id=payment.account_id, payment=payment, delta=delta, kind=kind)


def is_refunded(return_transaction_id: int | None) -> bool:
    """Whether a return has a refund that stands."""
    if return_transaction_id is None:
        return False
    standing = Refund.objects.filter(return_transaction_id=return_transaction_id, status=Refund.Status.DONE)
    return standing.exists()


def told(payment: Payment) -> dict[str, object]:
    """What every answer about a payment says."""
    return {
        "payment_id": payment.pk,
        "customer_id": payment.account_id,
        "status": str(payment.status),
        "amount": payment.amount,
        "currency": payment.currency,
    }
