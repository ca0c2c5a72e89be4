"""Sales in a store, paid from the customer's balance, and sales that were paid elsewhere."""

from decimal import Decimal

from participants.contract.bodies import (
    Body,
    Currency,
    Identifier,
    Label,
    PositiveMoney,
    PricedItem,
    PricedItems,
    total,
)
from participants.contract.outcomes import Outcome, Refused, unprocessable
from participants.contract.service import Call, Recorded
from participants.transactions import balances
from participants.transactions.models import Transaction, TransactionLine
from participants.transactions.service import service

Type = Transaction.Type
Status = Transaction.Status
Kind = balances.Kind


class CreateTransaction(Body):
    """A sale in a store, paid from the customer's balance."""

    store_id: Identifier
    employee_id: Identifier
    customer_id: Identifier
    items: PricedItems
    payment_method: Label = "balance"
    amount: PositiveMoney | None = None
    currency: Currency = "EUR"


class CreateSale(Body):
    """A sale that was paid at the payments participant."""

    store_id: Identifier
    customer_id: Identifier
    items: PricedItems
    payment_id: Identifier | None = None
    payment_method: Label = "online"
    amount: PositiveMoney | None = None
    currency: Currency = "EUR"


class OfTransaction(Body):
    """A transaction by its id."""

    transaction_id: Identifier


@service.action("create-transaction")
def create_transaction(body: CreateTransaction, call: Call) -> Outcome:
    """Record a sale as PENDING and take its amount from the customer's balance."""
    amount = checked_amount(body.items, body.amount)
    sale = Transaction(
        type=Type.SALE,
        status=Status.PENDING,
        store_id=body.store_id,
        employee_id=body.employee_id,
        customer_id=body.customer_id,
        payment_method=body.payment_method,
        amount=amount,
        currency=body.currency,
        saga_id=call.saga_id,
        created_at=call.now,
    )
    balance = balances.move(body.customer_id, -amount, body.currency)
    sale.save(force_insert=True)
    add_lines(sale, body.items)
    balances.enter(sale, -amount, Kind.SALE)
    return {**told(sale), "balance": balance}


@service.compensation("cancel-transaction", undoes="create-transaction")
def cancel_transaction(done: Recorded, call: Call) -> Outcome:
    """Cancel a sale, confirmed or not, and give its amount back; refused once goods came back."""
    sale = Transaction.objects.select_for_update().get(pk=done["transaction_id"])
    if sale.lines.filter(returned__gt=0).exists():
        return Refused("has_returns", f"Part of sale {sale.pk} was returned.")
    set_status(sale, Status.CANCELLED)
    balance = balances.move(sale.customer_id, sale.amount, sale.currency)
    balances.enter(sale, sale.amount, Kind.SALE_CANCELLED)
    return {**told(sale), "balance": balance}


@service.action("confirm-transaction")
def confirm_transaction(body: OfTransaction, call: Call) -> Outcome:
    """Turn a PENDING sale into a CONFIRMED one."""
    sale = Transaction.objects.select_for_update().filter(pk=body.transaction_id).first()
    if sale is None:
        return unprocessable("unknown_transaction", f"There is no transaction {body.transaction_id}.")
    if sale.status != Status.PENDING:
        return Refused("transaction_not_pending", f"Transaction {sale.pk} is {sale.status}.")
    sale.confirmed_at = call.now
    set_status(sale, Status.CONFIRMED)
    return told(sale)


@service.compensation("reopen-transaction", undoes="confirm-transaction")
def reopen_transaction(done: Recorded, call: Call) -> Outcome:
    """Turn a CONFIRMED sale back into a PENDING one."""
    sale = Transaction.objects.select_for_update().get(pk=done["transaction_id"])
    if sale.status != Status.CONFIRMED:
        return Refused("transaction_not_confirmed", f"Transaction {sale.pk} is {sale.status}.")
    sale.confirmed_at = None
    set_status(sale, Status.PENDING)
    return told(sale)


@service.action("create-sale")
def create_sale(body: CreateSale, call: Call) -> Outcome:
    """Record a sale that is already paid: it is CONFIRMED at once."""
    sale = Transaction.objects.create(
        type=Type.SALE,
        status=Status.CONFIRMED,
        store_id=body.store_id,
        customer_id=body.customer_id,
        payment_id=body.payment_id,
        payment_method=body.payment_method,
        amount=checked_amount(body.items, body.amount),
        currency=body.currency,
        saga_id=call.saga_id,
        created_at=call.now,
        confirmed_at=call.now,
    )
    add_lines(sale, body.items)
    return {**told(sale), "sale_id": sale.pk}


@service.compensation("cancel-sale", undoes="create-sale")
def cancel_sale(done: Recorded, call: Call) -> Outcome:
    """Cancel a sale that was paid elsewhere; refused once goods came back."""
    sale = Transaction.objects.select_for_update().get(pk=done["sale_id"])
    if sale.lines.filter(returned__gt=0).exists():
        return Refused("has_returns", f"Part of sale {sale.pk} was returned.")
    set_status(sale, Status.CANCELLED)
    return {**told(sale), "sale_id": sale.pk}


def checked_amount(items: list[PricedItem], amount: Decimal | None) -> Decimal:
    """The sum of the items; raises Refused if another amount is claimed."""
    computed = total(items)
    if amount is not None and amount != computed:
        raise unprocessable("amount_mismatch", f"The items cost {computed}, not {amount}.")
    return computed


def add_lines(sale: Transaction, items: list[PricedItem]) -> None:
    """Write the lines of a new sale."""
    TransactionLine.objects.bulk_create(
        TransactionLine(
            transaction=sale, product_id=item.product_id, quantity=item.quantity, price=item.price
        )
        for item in items
    )


def set_status(sale: Transaction, status: Transaction.Status) -> None:
    """Move a locked transaction to another status."""
    sale.status = status
    sale.save(update_fields=["status", "confirmed_at"])


def told(sale: Transaction) -> dict[str, object]:
    """What every answer about a transaction says."""
    return {
        "transaction_id": sale.pk,
        "status": str(sale.status),
        "amount": sale.amount,
        "currency": sale.currency,
    }
