"""Returns of goods that were sold: the return itself, the refund of an in-store sale, the sale's mark."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import cast

from django.db.models import F

from participants.contract.bodies import Body, Identifier, Items, Text, quantities
from participants.contract.configuration import duration
from participants.contract.outcomes import Outcome, Refused, unprocessable
from participants.contract.service import Call, Recorded
from participants.transactions import balances
from participants.transactions.models import Refund, Transaction, TransactionLine
from participants.transactions.service import service

DEFAULT_PERIOD = timedelta(days=30)
Type = Transaction.Type
Status = Transaction.Status
Kind = balances.Kind


class ValidateTransaction(Body):
    """The sale that goods are to be returned from."""

    original_transaction_id: Identifier


class CreateReturn(Body):
    """Goods of a sale that come back."""

    original_transaction_id: Identifier
    employee_id: Identifier | None = None
    items: Items
    reason: Text = ""


class OfReturn(Body):
    """A return by its id."""

    return_transaction_id: Identifier


@service.query("validate-transaction", method="GET", argument="original_transaction_id")
def validate_transaction(body: ValidateTransaction, call: Call) -> Outcome:
    """Tell whether a sale exists, is confirmed and in its return period, and what may come back."""
    sale = returnable_sale(body.original_transaction_id, call.now, lock=False)
    lines = list(sale.lines.order_by("id"))
    if all(line.returned == line.quantity for line in lines):
        return Refused("nothing_to_return", f"All goods of sale {sale.pk} came back already.")
    return {
        "transaction_id": sale.pk,
        "store_id": sale.store_id,
        "customer_id": sale.customer_id,
        "payment_id": sale.payment_id,
        "payment_method": sale.payment_method,
        "amount": sale.amount,
        "refunded": sale.refunded,
        "currency": sale.currency,
        "items": [
            {
                "product_id": line.product_id,
                "quantity": line.quantity,
                "returnable": line.quantity - line.returned,
                "price": line.price,
            }
            for line in lines
        ],
    }


@service.action("create-return")
def create_return(body: CreateReturn, call: Call) -> Outcome:
    """Record a return as PENDING and mark its goods as returned in the sale."""
    sale = returnable_sale(body.original_transaction_id, call.now, lock=True)
    taken = allotted(sale, quantities(body.items))
    back = Transaction.objects.create(
        type=Type.RETURN,
        original=sale,
        store_id=sale.store_id,
        employee_id=body.employee_id,
        customer_id=sale.customer_id,
        payment_id=sale.payment_id,
        payment_method=sale.payment_method,
        amount=sum((line.price * count for line, count in taken.items()), Decimal("0.00")),
        currency=sale.currency,
        reason=body.reason,
        saga_id=call.saga_id,
        created_at=call.now,
    )
    for line, count in taken.items():
        TransactionLine.objects.filter(pk=line.pk).update(returned=F("returned") + count)
    TransactionLine.objects.bulk_create(
        TransactionLine(transaction=back, product_id=line.product_id, quantity=count, price=line.price)
        for line, count in taken.items()
    )
    return told(back)


@service.compensation("cancel-return", undoes="create-return")
def cancel_return(done: Recorded, call: Call) -> Outcome:
    """Cancel a return; its goods count as sold again."""
    original_id = done["original_transaction_id"]
    sale = Transaction.objects.select_for_update().get(pk=original_id)
    back = Transaction.objects.select_for_update().get(pk=done["return_transaction_id"])
    if back.refunds.filter(status=Refund.Status.DONE).exists():
        return Refused("refunded", f"Return {back.pk} is refunded; reverse that first.")
    for line in back.lines.order_by("id"):
        give_back(sale, line)
    back.status = Status.CANCELLED
    back.save(update_fields=["status"])
    return told(back)


@service.action("refund-sale")
def refund_sale(body: OfReturn, call: Call) -> Outcome:
    """Give the amount of a return of an in-store sale back to the customer's balance."""
    back = locked_return(body.return_transaction_id)
    if back.payment_id is not None:
        return Refused("paid_elsewhere", f"Payment {back.payment_id} is to be refunded instead.")
    if back.status != Status.PENDING or back.refunds.filter(status=Refund.Status.DONE).exists():
        return Refused("return_not_open", f"Return {back.pk} is {back.status} or refunded already.")
    refund = Refund.objects.create(transaction=back, amount=back.amount, created_at=call.now)
    balance = balances.move(back.customer_id, back.amount, back.currency)
    balances.enter(back, back.amount, Kind.REFUND)
    return {"refund_id": refund.pk, "amount": refund.amount, "currency": back.currency, "balance": balance}


@service.compensation("reverse-sale-refund", undoes="refund-sale")
def reverse_sale_refund(done: Recorded, call: Call) -> Outcome:
    """Take a refund back from the customer's balance; refused if that is short by now."""
    refund = Refund.objects.select_for_update().select_related("transaction").get(pk=done["refund_id"])
    back = refund.transaction
    balance = balances.move(back.customer_id, -refund.amount, back.currency)
    balances.enter(back, -refund.amount, Kind.REFUND_REVERSED)
    refund.status = Refund.Status.REVERSED
    refund.save(update_fields=["status"])
    return {"refund_id": refund.pk, "status": Refund.Status.REVERSED.value, "balance": balance}


@service.action("update-sale")
def update_sale(body: OfReturn, call: Call) -> Outcome:
    """Confirm a return and add its amount to what was refunded of the sale."""
    back = locked_return(body.return_transaction_id)
    if back.status != Status.PENDING:
        return Refused("return_not_open", f"Return {back.pk} is {back.status}.")
    back.status = Status.CONFIRMED
    back.confirmed_at = call.now
    back.save(update_fields=["status", "confirmed_at"])
    Transaction.objects.filter(pk=original_id(back)).update(refunded=F("refunded") + back.amount)
    return told(back)


@service.compensation("reverse-sale-update", undoes="update-sale")
def reverse_sale_update(done: Recorded, call: Call) -> Outcome:
    """Turn a confirmed return back into a PENDING one."""
    back = locked_return(done["return_transaction_id"])
    back.status = Status.PENDING
    back.confirmed_at = None
    back.save(update_fields=["status", "confirmed_at"])
    Transaction.objects.filter(pk=original_id(back)).update(refunded=F("refunded") - back.amount)
    return told(back)


def period() -> timedelta:
    """How long goods may come back: PARTICIPANTS["RETURN_PERIOD"], 30 days unless set."""
    return duration("RETURN_PERIOD", DEFAULT_PERIOD)


def returnable_sale(transaction_id: int, now: datetime, *, lock: bool) -> Transaction:
    """The sale that goods may be returned from; raises Refused if there is none or it is too late."""
    rows = Transaction.objects.select_for_update() if lock else Transaction.objects.all()
    sale = rows.filter(pk=transaction_id).first()
    if sale is None:
        raise unprocessable("unknown_transaction", f"There is no transaction {transaction_id}.")
    if sale.type != Type.SALE or sale.status != Status.CONFIRMED:
        raise Refused("not_eligible", f"Transaction {sale.pk} is a {sale.type} that is {sale.status}.")
    if now > sale.created_at + period():
        raise Refused("return_period_over", f"Sale {sale.pk} was more than {period().days} days ago.")
    return sale


def allotted(sale: Transaction, wanted: Mapping[int, int]) -> dict[TransactionLine, int]:
    """Which lines of a locked sale the returned goods come from; raises Refused if they hold less."""
    taken: dict[TransactionLine, int] = {}
    lines = list(sale.lines.order_by("id"))
    for product_id, quantity in wanted.items():
        left = quantity
        of_product = [line for line in lines if line.product_id == product_id]
        if not of_product:
            raise unprocessable("product_not_in_sale", f"Sale {sale.pk} has no product {product_id}.")
        for line in of_product:
            count = min(left, line.quantity - line.returned)
            if count:
                taken[line] = count
                left -= count
        if left:
            raise Refused("more_than_sold", f"Product {product_id}: {left} more than can come back.")
    return taken


def give_back(sale: Transaction, returned: TransactionLine) -> None:
    """Count the goods of a cancelled return as sold again, in the lines at the same price."""
    left = returned.quantity
    lines = sale.lines.filter(product_id=returned.product_id, price=returned.price, returned__gt=0)
    for line in lines.order_by("-id"):
        count = min(left, line.returned)
        TransactionLine.objects.filter(pk=line.pk).update(returned=F("returned") - count)
        left -= count
        if not left:
            break


def original_id(back: Transaction) -> int:
    """The sale that a return belongs to; a constraint sees to it that there is one."""
    return cast(int, back.original_id)


def locked_return(transaction_id: int) -> Transaction:
    """The return, locked; raises Refused if there is none."""
    back = Transaction.objects.select_for_update().filter(pk=transaction_id, type=Type.RETURN).first()
    if back is None:
        raise unprocessable("unknown_transaction", f"There is no return {transaction_id}.")
    return back


def told(back: Transaction) -> dict[str, object]:
    """What every answer about a return says."""
    return {
        "return_transaction_id": back.pk,
        "original_transaction_id": back.original_id,
        "status": str(back.status),
        "amount": back.amount,
        "currency": back.currency,
        "store_id": back.store_id,
        "customer_id": back.customer_id,
        "payment_id": back.payment_id,
    }
