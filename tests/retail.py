"""The retail business as its tests see it: sagas driven by hand, and the books of all participants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from django.db.models import F, Sum
from django.db.models.functions import Now

from participants.contract import faults
from participants.inventory.models import Reservation, ReservationLine, Stock, StockMovement, StockTransfer
from participants.notifications.models import Message
from participants.orders.models import Order
from participants.payments.models import Account, AccountEntry, Payment
from participants.payments.models import Refund as OnlineRefund
from participants.personnel.models import WorkSession
from participants.supply_chain.models import CentralStock, ReplenishmentRequest
from participants.transactions.models import BalanceEntry, Customer, Refund, Transaction, TransactionLine
from sagas import engine, worker
from sagas.definition import registry
from sagas.models import SagaStep
from sagas.state import FINISHED, NEEDS_PERSON, SagaState
from tests.business import INPUTS

MOVES = 200


# --- Driving ------------------------------------------------------------------------------------------


def fault(participant: str, step: str, kind: faults.Kind, times: int | None = 1, **options: Any) -> None:
    """Let the participant misbehave when that step (or compensation) calls it."""
    match = {"saga_step": step}
    faults.switch_on(
        participant, faults.NewFault(operation="*", kind=kind, times=times, match=match, **options)
    )


def run(saga_type: str, **changes: Any) -> SagaState:
    """Start a saga of that type on the usual input and take it to its end."""
    started = engine.start(saga_type, INPUTS[saga_type] | changes)
    return drive(started.state.id)


def drive(saga_id: UUID) -> SagaState:
    """Do a worker's work until the saga has ended or waits for a person; pauses pass at once."""
    for _ in range(MOVES):
        state = engine.load(saga_id)
        if state.status in FINISHED | NEEDS_PERSON:
            return state
        due = engine.due_positions(state)
        assert due, f"{state.type} is {state.status} and nothing is due"
        steps = SagaStep.objects.filter(saga_id=saga_id, due_at__gt=Now())
        steps.update(due_at=Now())
        definition = registry.get(state.type, state.version)
        for position in due:
            worker.advance(definition, saga_id, position, state.epoch)
    raise AssertionError(f"{saga_id} did not end after {MOVES} moves")


def original(paid: Literal["in store", "online"]) -> int:
    """The id of a sale that goods can be returned from."""
    saga = run("sales_saga" if paid == "in store" else "purchase_saga")
    result = saga.result or {}
    number: int = result["transaction_id" if paid == "in store" else "sale_id"]
    return number


# --- The books ----------------------------------------------------------------------------------------

Figures = Counter[str]


def figures() -> Figures:
    """What customers, shelves and files hold, over all databases; what is cancelled is left out."""
    count: Counter[str] = Counter()
    for stock in Stock.objects.all():
        count[f"stock {stock.store_id}/{stock.product_id}"] += stock.quantity
        count[f"reserved {stock.store_id}/{stock.product_id}"] += stock.reserved
    for centre in CentralStock.objects.all():
        count[f"centre {centre.product_id}"] += centre.quantity
    for customer in Customer.objects.all():
        count[f"balance {customer.pk}"] += cents(customer.balance)
    for account in Account.objects.all():
        count[f"account {account.pk}"] += cents(account.balance)
    for kind, status in Transaction.objects.exclude(status="CANCELLED").values_list("type", "status"):
        count[f"{kind} {status}"] += 1
    count["refunds"] = OnlineRefund.objects.filter(status="DONE").count()
    count["refunds"] += Refund.objects.filter(status="DONE").count()
    count["returned"] = total_of(TransactionLine.objects.filter(transaction__type="SALE"), "returned")
    count["refunded"] = cents(Decimal(total_of(Transaction.objects.all(), "refunded")))
    count["payments"] = Payment.objects.filter(status="PAID").count()
    count["orders"] = Order.objects.filter(status="CREATED").count()
    count["sessions"] = WorkSession.objects.filter(status="OPEN").count()
    count["approved"] = ReplenishmentRequest.objects.filter(status="APPROVED").count()
    count["transfers"] = StockTransfer.objects.count()
    for kind in Message.objects.values_list("kind", flat=True):
        count["messages"] += 1 if kind == "CONFIRMATION" else -1
    return count


def cents(amount: Decimal) -> int:
    """Money as a whole number."""
    return int(amount * 100)


def total_of(rows: Any, field: str) -> Any:
    """The sum of a column, 0 if there is no row."""
    return rows.aggregate(sum=Sum(field))["sum"] or 0


def change(before: Figures, after: Figures) -> dict[str, int]:
    """Which figures have changed, and by how much."""
    return {name: after[name] - before[name] for name in before | after if after[name] != before[name]}


def assert_books_balance() -> None:
    """Fails unless money, stock and papers add up within and across all databases."""
    stock_adds_up()
    money_adds_up()
    papers_agree()


def stock_adds_up() -> None:
    """Stock is the sum of its movements; what is reserved is what open reservations hold."""
    for stock in Stock.objects.all():
        place = {"store_id": stock.store_id, "product_id": stock.product_id}
        assert stock.quantity == total_of(StockMovement.objects.filter(**place), "delta"), place
        held = ReservationLine.objects.filter(
            reservation__store_id=stock.store_id, reservation__status="RESERVED", product_id=stock.product_id
        )
        assert 0 <= stock.reserved == total_of(held, "quantity") <= stock.quantity, place


def moved(*kinds: str) -> int:
    """The net change of stock by movements whose kind begins with one of these."""
    return sum(total_of(StockMovement.objects.filter(kind__startswith=kind), "delta") for kind in kinds)


def money_adds_up() -> None:
    """Every balance is the sum of its entries, and of the sales, payments and refunds that stand."""
    for customer in Customer.objects.all():
        entries = BalanceEntry.objects.filter(customer=customer)
        assert customer.balance == total_of(entries, "delta") >= 0, customer
        bought = Transaction.objects.filter(customer_id=customer.pk, type="SALE", payment_id=None)
        back = Refund.objects.filter(transaction__customer_id=customer.pk, status="DONE")
        paid = total_of(bought.exclude(status="CANCELLED"), "amount") - total_of(back, "amount")
        assert total_of(entries.filter(kind="DEPOSIT"), "delta") - paid == customer.balance, customer
    for account in Account.objects.all():
        lines = AccountEntry.objects.filter(account=account)
        assert account.balance == total_of(lines, "delta") >= 0, account
        standing = Payment.objects.filter(account=account, status="PAID")
        returned = OnlineRefund.objects.filter(payment__account=account, status="DONE")
        spent = total_of(standing, "amount") - total_of(returned, "amount")
        assert total_of(lines.filter(kind="DEPOSIT"), "delta") - spent == account.balance, account


def papers_agree() -> None:
    """Sales, orders, returns and transfers of one database have their counterparts in the others."""
    sold = TransactionLine.objects.filter(transaction__type="SALE", transaction__status="CONFIRMED")
    assert total_of(sold, "quantity") == -moved("SALE")
    back = TransactionLine.objects.filter(transaction__type="RETURN", transaction__status="CONFIRMED")
    assert total_of(back, "quantity") == total_of(sold, "returned") == moved("RETURN")
    assert moved("TRANSFER") == 0
    assert total_of(CentralStock.objects.all(), "quantity") + moved("REPLENISHMENT") == 6000
    assert not Transaction.objects.filter(status="PENDING").exists()
    paid = Payment.objects.filter(status="PAID")
    sales = Transaction.objects.filter(type="SALE", status="CONFIRMED").exclude(payment_id=None)
    orders = Order.objects.filter(status="CREATED")
    for_sale = [*sales.values_list("payment_id", "amount")]
    for_order = [*orders.exclude(payment_id=None).values_list("payment_id", "amount")]
    assert sorted(paid.values_list("pk", "amount")) == sorted([*for_sale, *for_order])
    held = Reservation.objects.filter(status="RESERVED").values_list("pk", flat=True)
    assert set(held) == set(orders.values_list("reservation_id", flat=True))
    assert not Payment.objects.filter(refunded__gt=F("amount")).exists()


def each(call: Callable[[], SagaState]) -> tuple[SagaState, dict[str, int]]:
    """What a saga came to, and which figures it changed; the books balance afterwards."""
    before = figures()
    state = call()
    assert_books_balance()
    return state, change(before, figures())
