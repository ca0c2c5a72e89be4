"""The business rules of personnel, inventory and transactions, on real databases."""

import threading
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError, OperationalError
from django.db.models import Sum
from django.utils import timezone
from pytest_django import Settings

from participants.contract.tending import Chore, tend
from participants.inventory.models import Reservation, Stock, StockMovement, StockTransfer
from participants.inventory.stock import expire_all_due
from participants.personnel.models import WorkSession
from participants.transactions.models import BalanceEntry, Customer, Transaction
from tests.participants import CREDENTIAL, Caller, at_once

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.urls("participants.urls"),
]
BASKET = {"store_id": 1, "items": [{"product_id": 456, "quantity": 2}]}
SALE = {
    **BASKET,
    "employee_id": 1,
    "customer_id": 123,
    "items": [{"product_id": 456, "quantity": 2, "price": "29.99"}],
    "payment_method": "balance",
    "amount": "59.98",
    "currency": "EUR",
}


@pytest.fixture
def caller(settings: Settings) -> Caller:
    """A caller of the demo shop."""
    settings.MIDDLEWARE = []
    settings.PARTICIPANTS = settings.PARTICIPANTS | {"CREDENTIALS": [CREDENTIAL], "FAULTS": False}
    call_command("seed", stdout=StringIO())
    return Caller()


def stock(product: int = 456, store: int = 1) -> tuple[int, int]:
    """Quantity and reserved."""
    row = Stock.objects.get(store_id=store, product_id=product)
    return row.quantity, row.reserved


def balance(customer: int = 123) -> str:
    """A customer's balance."""
    return str(Customer.objects.get(pk=customer).balance)


def assert_accounts_add_up() -> None:
    """Every quantity is the sum of its movements, every balance of its entries, all promises are kept."""
    for row in Stock.objects.all():
        moved = StockMovement.objects.filter(store_id=row.store_id, product_id=row.product_id)
        assert moved.aggregate(sum=Sum("delta"))["sum"] == row.quantity
        held = Reservation.objects.filter(
            store_id=row.store_id, status="RESERVED", lines__product_id=row.product_id
        )
        assert (held.aggregate(sum=Sum("lines__quantity"))["sum"] or 0) == row.reserved
    for customer in Customer.objects.all():
        entries = BalanceEntry.objects.filter(customer=customer)
        assert entries.aggregate(sum=Sum("delta"))["sum"] == customer.balance


def test_seeding_again_keeps_what_is_there(caller: Caller) -> None:
    Stock.objects.filter(pk=1).update(quantity=7)
    call_command("seed", stdout=StringIO())
    assert Stock.objects.get(pk=1).quantity == 7
    assert Stock.objects.count() == 6
    assert Stock.objects.create(store_id=3, product_id=1).pk > 6


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("validate-employee/99", (422, "employee_not_found")),
        ("validate-employee/2?action=sell", (409, "employee_inactive")),
        ("validate-employee/3?action=sell", (409, "permission_denied")),
        ("validate-employee/3?action=transfer", (409, "permission_denied")),
        ("validate-employee/1?action=steal", (422, "invalid_request")),
    ],
)
def test_employees_who_may_not(caller: Caller, path: str, expected: tuple[int, str]) -> None:
    assert caller.get(path).code == expected
    assert caller.get(path, key=caller.key()).code == expected
    assert not WorkSession.objects.exists()


def test_a_session_is_opened_under_a_key_only_and_invalidated(caller: Caller) -> None:
    path, key = "validate-employee/1?action=sell&store_id=1", caller.key()
    assert "session_id" not in caller.get(path).data
    session = caller.get(path, key=key).data["session_id"]
    assert caller.get(path, key=key).data["session_id"] == session
    caller.post("invalidate-session", key=caller.key(), undoes=key)
    assert WorkSession.objects.values_list("pk", "status").get() == (session, "INVALIDATED")


def test_schedule_of_a_day(caller: Caller) -> None:
    shifts = caller.get("employee-schedule?store_id=1&date=2026-01-05").data["shifts"]
    assert [(shift["employee_id"], shift["starts_at"]) for shift in shifts] == [
        (1, "08:00:00"),
        (3, "08:00:00"),
    ]


def test_a_sale_and_its_undoing_step_by_step(caller: Caller) -> None:
    keys = [caller.key() for _ in range(4)]
    reservation = caller.post("reserve-stock", BASKET, key=keys[0]).data["reservation_id"]
    sale = caller.post("create-transaction", SALE, key=keys[1]).data
    assert (sale["status"], sale["balance"]) == ("PENDING", "9940.02")
    movements = caller.post("confirm-stock", {"reservation_id": reservation}, key=keys[2]).data["movements"]
    assert [movement["delta"] for movement in movements] == [-2]
    assert stock() == (98, 0)
    confirmed = caller.post("confirm-transaction", {"transaction_id": sale["transaction_id"]}, key=keys[3])
    assert confirmed.data["status"] == "CONFIRMED"
    assert_accounts_add_up()
    caller.post("reverse-stock-confirmation", key=caller.key(), undoes=keys[2])
    assert stock() == (100, 2)
    assert_accounts_add_up()
    assert caller.post("cancel-transaction", key=caller.key(), undoes=keys[1]).data["status"] == "CANCELLED"
    caller.post("release-stock", key=caller.key(), undoes=keys[0])
    assert (stock(), balance()) == ((100, 0), "10000.00")
    assert_accounts_add_up()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"customer_id": 124}, (409, "insufficient_funds")),
        ({"customer_id": 999}, (422, "unknown_customer")),
        ({"amount": "59.97"}, (422, "amount_mismatch")),
        ({"currency": "CHF"}, (422, "wrong_currency")),
        ({"amount": "1.001"}, (422, "invalid_request")),
    ],
)
def test_sales_that_are_refused(caller: Caller, change: dict[str, Any], expected: tuple[int, str]) -> None:
    assert caller.post("create-transaction", {**SALE, **change}, key=caller.key()).code == expected
    assert not Transaction.objects.exists()
    assert_accounts_add_up()


def test_a_confirmation_that_comes_after_the_cancellation_is_refused(caller: Caller) -> None:
    key = caller.key()
    sale = caller.post("create-transaction", SALE, key=key).data["transaction_id"]
    caller.post("cancel-transaction", key=caller.key(), undoes=key)
    late = caller.post("confirm-transaction", {"transaction_id": sale}, key=caller.key())
    assert late.code == (409, "transaction_not_pending")


def test_stock_that_is_asked_for(caller: Caller) -> None:
    assert caller.post("check-stock", BASKET).data["items"][0]["available"] == 100
    short = {"store_id": 1, "items": [{"product_id": 456, "quantity": 101}]}
    assert caller.post("check-stock", short).code == (409, "insufficient_stock")
    assert caller.post("check-stock", {"store_id": 1, "product_ids": [9]}).code == (422, "unknown_product")
    assert caller.post("check-stock", {"store_id": 1}).code == (422, "invalid_request")


def test_items_of_one_product_are_reserved_together(caller: Caller) -> None:
    twice = {"store_id": 1, "items": [{"product_id": 456, "quantity": 60}] * 2}
    assert caller.post("reserve-stock", twice, key=caller.key()).code == (409, "insufficient_stock")
    assert stock() == (100, 0)


def test_an_expired_reservation_makes_room_when_stock_is_short(caller: Caller) -> None:
    all_of_it = {"store_id": 1, "items": [{"product_id": 456, "quantity": 100}]}
    key = caller.key()
    first = caller.post("reserve-stock", all_of_it, key=key).data["reservation_id"]
    assert caller.post("reserve-stock", BASKET, key=caller.key()).code == (409, "insufficient_stock")
    Reservation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    late = caller.post("confirm-stock", {"reservation_id": first}, key=caller.key())
    assert late.code == (409, "reservation_expired")
    assert caller.post("reserve-stock", BASKET, key=caller.key()).status == 200
    assert Reservation.objects.get(pk=first).status == "EXPIRED"
    assert caller.post("release-stock", key=caller.key(), undoes=key).data["status"] == "EXPIRED"
    assert stock() == (100, 2)
    assert_accounts_add_up()


def test_overdue_reservations_are_swept(caller: Caller) -> None:
    for _ in range(3):
        caller.post("reserve-stock", BASKET, key=caller.key())
    assert expire_all_due(timezone.now()) == 0
    assert expire_all_due(timezone.now() + timedelta(hours=3), batch=2) == 3
    assert stock() == (100, 0)


def test_what_is_overdue_counts_as_free_wherever_stock_is_asked_for(caller: Caller) -> None:
    all_of_it = {"store_id": 1, "items": [{"product_id": 456, "quantity": 100}]}
    caller.post("reserve-stock", all_of_it, key=caller.key())
    assert caller.post("check-stock", BASKET).code == (409, "insufficient_stock")
    Reservation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert caller.post("check-stock", BASKET).data["items"][0]["available"] == 100
    assert stock() == (100, 100)
    assert caller.post("take-from-source", BASKET, key=caller.key()).status == 200
    assert stock() == (98, 0)


def test_what_an_order_holds_is_never_sold_again(caller: Caller) -> None:
    ordered = {"store_id": 1, "items": [{"product_id": 456, "quantity": 99}], "hold": "order"}
    key, taken = caller.key(), caller.key()
    held = caller.post("reserve-stock", ordered, key=key).data
    assert held["expires_at"] is None
    assert expire_all_due(timezone.now() + timedelta(days=3650)) == 0
    assert caller.post("reserve-stock", BASKET, key=caller.key()).code == (409, "insufficient_stock")
    caller.post("confirm-stock", {"reservation_id": held["reservation_id"]}, key=taken)
    caller.post("reverse-stock-confirmation", key=caller.key(), undoes=taken)
    assert Reservation.objects.get().expires_at is None
    caller.post("release-stock", key=caller.key(), undoes=key)
    assert stock() == (100, 0)
    assert_accounts_add_up()


def test_tending_expires_until_it_is_stopped(caller: Caller, tmp_path: Path) -> None:
    caller.post("reserve-stock", BASKET, key=caller.key())
    Reservation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    mark, stop, rounds = tmp_path / "mark", threading.Event(), 0

    def expire() -> int:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            raise OperationalError("away")
        assert not mark.exists()
        stop.set()
        return expire_all_due(timezone.now())

    tend([Chore("expire", expire, timedelta(0))], stop, mark)
    assert (rounds, stock(), mark.exists()) == (2, (100, 0), True)


def test_a_transfer_and_its_undoing(caller: Caller) -> None:
    taken, added = caller.key(), caller.key()
    caller.post("take-from-source", BASKET, key=taken)
    caller.post("add-to-destination", {**BASKET, "store_id": 2}, key=added)
    assert (stock(store=1), stock(store=2)) == ((98, 0), (102, 0))
    note = {"source_store_id": 1, "destination_store_id": 2, "items": BASKET["items"], "employee_id": 1}
    movement = caller.post("record-movement", note, key=caller.key()).data["movement_id"]
    assert StockTransfer.objects.get().pk == movement
    same = caller.post("record-movement", {**note, "destination_store_id": 1}, key=caller.key())
    assert same.code == (422, "same_store")
    caller.post("remove-from-destination", key=caller.key(), undoes=added)
    caller.post("return-to-source", key=caller.key(), undoes=taken)
    assert (stock(store=1), stock(store=2)) == ((100, 0), (100, 0))
    assert_accounts_add_up()


def test_a_delivery_that_was_sold_meanwhile_cannot_be_taken_back(caller: Caller) -> None:
    key = caller.key()
    caller.post("add-to-store", {"store_id": 2, "items": [{"product_id": 1, "quantity": 5}]}, key=key)
    caller.post(
        "reserve-stock", {"store_id": 2, "items": [{"product_id": 1, "quantity": 1}]}, key=caller.key()
    )
    refused = caller.post("remove-from-store", key=caller.key(), undoes=key)
    assert refused.code == (409, "insufficient_stock")
    assert stock(1, 2) == (5, 1)


def sold(caller: Caller) -> int:
    """The id of a confirmed sale of two pieces."""
    number: int = caller.post("create-transaction", SALE, key=caller.key()).data["transaction_id"]
    caller.post("confirm-transaction", {"transaction_id": number}, key=caller.key())
    return number


def returning(sale: int, quantity: int = 1) -> dict[str, object]:
    """The request of a return."""
    items = [{"product_id": 456, "quantity": quantity}]
    return {"original_transaction_id": sale, "employee_id": 1, "items": items, "reason": "too small"}


def test_a_return_and_its_undoing(caller: Caller) -> None:
    sale, keys = sold(caller), [caller.key() for _ in range(3)]
    assert caller.get(f"validate-transaction/{sale}").data["items"][0]["returnable"] == 2
    back = caller.post("create-return", returning(sale), key=keys[0]).data
    assert (back["amount"], back["payment_id"]) == ("29.99", None)
    body = {"return_transaction_id": back["return_transaction_id"]}
    assert caller.post("refund-sale", body, key=keys[1]).data["balance"] == "9970.01"
    assert caller.post("refund-sale", body, key=caller.key()).code == (409, "return_not_open")
    caller.post("update-sale", body, key=keys[2])
    assert Transaction.objects.get(pk=sale).refunded == Decimal("29.99")
    assert_accounts_add_up()
    caller.post("reverse-sale-update", key=caller.key(), undoes=keys[2])
    early = caller.post("cancel-return", key=caller.key(), undoes=keys[0])
    assert early.code == (409, "refunded")
    caller.post("reverse-sale-refund", key=caller.key(), undoes=keys[1])
    assert caller.post("cancel-return", key=caller.key(), undoes=keys[0]).data["status"] == "CANCELLED"
    assert caller.get(f"validate-transaction/{sale}").data["items"][0]["returnable"] == 2
    assert balance() == "9940.02"
    assert_accounts_add_up()


def test_no_more_comes_back_than_was_sold(caller: Caller) -> None:
    sale = sold(caller)
    assert caller.post("create-return", returning(sale, 3), key=caller.key()).code == (409, "more_than_sold")
    caller.post("create-return", returning(sale, 2), key=caller.key())
    assert caller.post("create-return", returning(sale), key=caller.key()).code == (409, "more_than_sold")
    assert caller.get(f"validate-transaction/{sale}").code == (409, "nothing_to_return")


def test_sales_that_cannot_be_returned(caller: Caller) -> None:
    pending = caller.post("create-transaction", SALE, key=caller.key()).data["transaction_id"]
    assert caller.get(f"validate-transaction/{pending}").code == (409, "not_eligible")
    assert caller.get("validate-transaction/999").code == (422, "unknown_transaction")
    old = sold(caller)
    Transaction.objects.filter(pk=old).update(created_at=timezone.now() - timedelta(days=31))
    assert caller.get(f"validate-transaction/{old}").code == (409, "return_period_over")
    assert caller.post("create-return", returning(old), key=caller.key()).code == (409, "return_period_over")


def test_a_sale_with_returns_is_not_cancelled(caller: Caller) -> None:
    key = caller.key()
    sale = caller.post("create-transaction", SALE, key=key).data["transaction_id"]
    caller.post("confirm-transaction", {"transaction_id": sale}, key=caller.key())
    caller.post("create-return", returning(sale), key=caller.key())
    assert caller.post("cancel-transaction", key=caller.key(), undoes=key).code == (409, "has_returns")


def test_the_databases_refuse_what_must_never_be(caller: Caller) -> None:
    with pytest.raises(IntegrityError, match=r"inventory_stock_not_negative|inventory_reserved_within_stock"):
        Stock.objects.filter(pk=1).update(quantity=-1)
    with pytest.raises(IntegrityError, match="inventory_reserved_within_stock"):
        Stock.objects.filter(pk=1).update(reserved=101)
    with pytest.raises(IntegrityError, match="transactions_balance_not_negative"):
        Customer.objects.update(balance=-1)


def test_reservations_racing_for_the_last_pieces(caller: Caller) -> None:
    Stock.objects.filter(store_id=1, product_id=456).update(quantity=15)

    def reserve(number: int) -> tuple[int, str]:
        said = Caller().post("reserve-stock", BASKET, key=caller.key())
        return said.status, said.document.get("code", "")

    answers = at_once(24, reserve)
    assert sorted(answers) == [(200, "")] * 7 + [(409, "insufficient_stock")] * 17
    assert stock() == (15, 14)


def test_baskets_in_opposite_order_do_not_block_each_other(caller: Caller) -> None:
    one, other = {"product_id": 456, "quantity": 1}, {"product_id": 457, "quantity": 1}

    def reserve_and_release(number: int) -> tuple[int, str]:
        items = [one, other] if number % 2 else [other, one]
        mine, key = Caller(), caller.key()
        reserved = mine.post("reserve-stock", {"store_id": 1, "items": items}, key=key)
        released = mine.post("release-stock", key=mine.key(), undoes=key)
        return reserved.status, str(released.status)

    assert set(at_once(16, reserve_and_release)) == {(200, "200")}
    assert stock(456)[1] == stock(457)[1] == 0


def test_debits_racing_for_one_balance(caller: Caller) -> None:
    Customer.objects.filter(pk=123).update(balance=Decimal("200.00"))
    BalanceEntry.objects.filter(customer=123).update(delta=Decimal("200.00"))

    def buy(number: int) -> tuple[int, str]:
        said = Caller().post("create-transaction", SALE, key=caller.key())
        return said.status, said.document.get("code", "")

    assert sorted(at_once(8, buy)) == [(200, "")] * 3 + [(409, "insufficient_funds")] * 5
    assert balance() == "20.06"
    assert_accounts_add_up()
