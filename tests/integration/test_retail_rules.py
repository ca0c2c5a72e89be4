"""The business rules as sagas meet them: what is refused, by whom, with what code."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from participants.catalogue.models import Product
from participants.inventory.models import Reservation, Stock
from participants.orders.models import Order
from participants.payments.models import Account
from participants.personnel.models import Shift
from participants.supply_chain.models import CentralStock, ReplenishmentRequest
from participants.transactions.models import Transaction
from sagas.state import Status
from tests.retail import change, each, fault, figures, original, run

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.usefixtures("shop"),
]


def of(product: int, quantity: int, **more: Any) -> dict[str, Any]:
    """One line as the only one."""
    return {"items": [{"product_id": product, "quantity": quantity, **more}]}


@pytest.mark.parametrize(
    ("saga_type", "given", "step", "code"),
    [
        ("sales_saga", {"employee_id": 2}, "validate-employee", "employee_inactive"),
        ("sales_saga", {"employee_id": 3}, "validate-employee", "permission_denied"),
        ("sales_saga", {"employee_id": 9}, "validate-employee", "employee_not_found"),
        ("sales_saga", of(456, 101, price="1.00"), "reserve-stock", "insufficient_stock"),
        ("sales_saga", of(999, 1, price="1.00"), "reserve-stock", "unknown_product"),
        ("sales_saga", {"customer_id": 124}, "create-transaction", "insufficient_funds"),
        ("sales_saga", {"customer_id": 9}, "create-transaction", "unknown_customer"),
        ("sales_saga", {"currency": "CHF"}, "create-transaction", "wrong_currency"),
        (
            "purchase_saga",
            of(456, 101, price="1.00") | {"amount": "101.00"},
            "validate-inventory",
            "insufficient_stock",
        ),
        ("purchase_saga", {"store_id": 9}, "validate-inventory", "unknown_product"),
        ("purchase_saga", {"customer_id": 124}, "process-payment", "insufficient_funds"),
        ("purchase_saga", {"customer_id": 9}, "process-payment", "unknown_customer"),
        ("purchase_saga", {"currency": "CHF"}, "process-payment", "wrong_currency"),
        ("return_saga", {"original_transaction_id": 9}, "validate-return", "unknown_transaction"),
        ("checkout_saga", of(456, 101), "verify-stock", "insufficient_stock"),
        ("checkout_saga", of(999, 1), "verify-stock", "unknown_product"),
        ("checkout_saga", of(458, 1), "fetch-product", "product_not_sold"),
        ("order_saga", of(456, 101), "reserve-stock", "insufficient_stock"),
        ("order_saga", {"client_id": 124}, "debit-account", "insufficient_funds"),
        ("transfer_saga", {"employee_id": 2}, "validate-employee", "employee_inactive"),
        ("transfer_saga", {"employee_id": 3}, "validate-employee", "permission_denied"),
        ("transfer_saga", {"destination_store_id": 9}, "check-stores", "unknown_store"),
        ("transfer_saga", {"destination_store_id": 1}, "check-stores", "same_store"),
        ("transfer_saga", of(456, 101), "take-from-source", "insufficient_stock"),
        ("replenishment_saga", of(999, 1), "approve-request", "request_rejected"),
        ("store_opening_check", {"product_ids": [999]}, "check-stock", "unknown_product"),
    ],
)
def test_refused_by_a_rule(saga_type: str, given: dict[str, Any], step: str, code: str) -> None:
    state, changed = each(lambda: run(saga_type, **given))
    error = state.error or {}
    assert (error["step"], error["code"]) == (step, code)
    assert state.status in (Status.FAILED, Status.COMPENSATED)
    assert changed == {}


@pytest.mark.parametrize(
    ("given", "code"),
    [(of(456, 3), "more_than_sold"), (of(457, 1), "product_not_in_sale")],
)
def test_goods_that_were_not_sold_do_not_come_back(given: dict[str, Any], code: str) -> None:
    number = original("in store")
    state, changed = each(lambda: run("return_saga", original_transaction_id=number, **given))
    error = state.error or {}
    assert (state.status, error["step"], error["code"]) == (
        Status.FAILED,
        "create-return-transaction",
        code,
    )
    assert changed == {}


def test_a_return_comes_too_late() -> None:
    number = original("in store")
    Transaction.objects.update(created_at=timezone.now() - timedelta(days=31))
    state = run("return_saga", original_transaction_id=number)
    assert (state.status, (state.error or {})["code"]) == (Status.FAILED, "return_period_over")


def test_goods_come_back_piece_by_piece_and_no_more_than_all() -> None:
    number, before = original("online"), figures()
    for _ in range(2):
        state, _changed = each(lambda: run("return_saga", original_transaction_id=number))
        assert state.status == Status.COMPLETED
    assert change(before, figures())["account 123"] == 5998
    state, changed = each(lambda: run("return_saga", original_transaction_id=number))
    assert ((state.error or {})["code"], changed) == ("nothing_to_return", {})
    assert Account.objects.get(pk=123).balance == Decimal("10000.00")


@pytest.mark.parametrize(
    ("saga_type", "number"), [("sales_saga", "transaction_id"), ("purchase_saga", "sale_id")]
)
def test_what_was_free_comes_back_for_nothing(saga_type: str, number: str) -> None:
    items = [
        {"product_id": 456, "quantity": 1, "price": "29.99"},
        {"product_id": 457, "quantity": 2, "price": "0.00"},
    ]
    sold = run(saga_type, items=items, amount="29.99")
    given = {"original_transaction_id": (sold.result or {})[number], **of(457, 2)}
    state, changed = each(lambda: run("return_saga", **given))
    assert (state.status, (state.result or {})["refunded"]) == (Status.COMPLETED, "0.00")
    assert changed == {"RETURN CONFIRMED": 1, "refunds": 1, "returned": 2, "stock 1/457": 2}


def test_a_return_of_what_was_free_is_undone_as_any_other() -> None:
    items = [
        {"product_id": 456, "quantity": 1, "price": "29.99"},
        {"product_id": 457, "quantity": 2, "price": "0.00"},
    ]
    sold = run("purchase_saga", items=items, amount="29.99")
    fault("transactions", "update-sale", "refuse")
    given = {"original_transaction_id": (sold.result or {})["sale_id"], **of(457, 2)}
    state, changed = each(lambda: run("return_saga", **given))
    assert (state.status, changed) == (Status.COMPENSATED, {})


def test_a_return_is_not_itself_returned() -> None:
    back = run("return_saga", original_transaction_id=original("in store"))
    number = (back.result or {})["return_transaction_id"]
    state = run("return_saga", original_transaction_id=number)
    assert (state.error or {})["code"] == "not_eligible"


def test_a_checkout_costs_what_the_catalogue_says() -> None:
    Product.objects.filter(pk=456).update(price=Decimal("31.50"))
    state = run("checkout_saga")
    assert state.result == {"order_id": Order.objects.get().pk, "amount": "63.00", "currency": "EUR"}
    assert [line.price for line in Order.objects.get().lines.all()] == [Decimal("31.50")]
    assert Order.objects.get().reservation_id == Reservation.objects.get(status="RESERVED").pk


def test_a_rejected_replenishment_says_why_and_stays_on_record() -> None:
    CentralStock.objects.filter(product_id=456).update(limit=1)
    state, changed = each(lambda: run("replenishment_saga"))
    error = state.error or {}
    assert (state.status, error["code"]) == (Status.FAILED, "request_rejected")
    request = ReplenishmentRequest.objects.get()
    assert (request.status, request.reason) == ("REJECTED", error["reason"])
    assert changed == {}


def test_an_approved_request_is_open_again_when_the_centre_is_short() -> None:
    for _ in range(2):
        state, changed = each(lambda: run("replenishment_saga", **of(456, 500)))
        assert (state.status, changed["centre 456"]) == (Status.COMPLETED, -500)
    state, changed = each(lambda: run("replenishment_saga"))
    assert (state.status, (state.error or {})["step"]) == (Status.COMPENSATED, "take-from-central")
    assert ReplenishmentRequest.objects.latest("id").status == "REQUESTED"
    assert changed == {}


@pytest.mark.parametrize(
    ("sold_out", "date", "ready"),
    [(False, "2026-03-02", True), (True, "2026-03-02", False)],
)
def test_whether_a_store_can_open(sold_out: bool, date: str, ready: bool) -> None:
    if sold_out:
        Stock.objects.filter(store_id=1, product_id=457).update(reserved=1000)
    state = run("store_opening_check", date=date)
    assert state.result == {
        "store_id": 1,
        "store": "Old Town",
        "opens_at": "08:00:00",
        "closes_at": "20:00:00",
        "staff": ["Ada Marin", "Chloé Dumont"],
        "out_of_stock": [457] if sold_out else [],
        "ready": ready,
    }


def test_a_store_without_staff_is_not_ready() -> None:
    Shift.objects.all().delete()
    result = run("store_opening_check").result or {}
    assert (result["ready"], result["staff"]) == (False, [])
