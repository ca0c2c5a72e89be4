"""The business rules of payments, catalogue, stores, orders, supply chain and notifications."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError
from django.db.models import Sum
from pytest_django import Settings

from participants.notifications.models import Message
from participants.orders.models import Order
from participants.payments.models import Account, AccountEntry, Payment
from participants.supply_chain.models import CentralStock, ReplenishmentRequest
from participants.transactions.models import Transaction
from tests.participants import CREDENTIAL, Caller, at_once

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.urls("participants.urls"),
]
ITEMS = [{"product_id": 456, "quantity": 2}]
PAYMENT = {"customer_id": 123, "amount": "59.98", "payment_method": "credit_card"}
ORDER = {"client_id": 123, "store_id": 1, "items": ITEMS, "amount": "59.98"}


@pytest.fixture
def caller(settings: Settings) -> Caller:
    """A caller of the demo shop."""
    settings.MIDDLEWARE = []
    settings.PARTICIPANTS = settings.PARTICIPANTS | {"CREDENTIALS": [CREDENTIAL], "FAULTS": False}
    call_command("seed", stdout=StringIO())
    return Caller()


def balance(customer: int = 123) -> str:
    """The balance of an account, which is the sum of its entries."""
    account = Account.objects.get(pk=customer)
    assert AccountEntry.objects.filter(account=account).aggregate(sum=Sum("delta"))["sum"] == account.balance
    return str(account.balance)


def paid(caller: Caller) -> int:
    """The id of a payment of 59.98."""
    number: int = caller.post("process-payment", PAYMENT, key=caller.key()).data["payment_id"]
    return number


def test_a_payment_and_its_undoing(caller: Caller) -> None:
    key = caller.key()
    assert caller.post("process-payment", PAYMENT, key=key).data["balance"] == "9940.02"
    undone = caller.post("refund-payment", key=caller.key(), undoes=key).data
    assert (undone["status"], balance()) == ("CANCELLED", "10000.00")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"customer_id": 124}, (409, "insufficient_funds")),
        ({"customer_id": 9}, (422, "unknown_customer")),
        ({"currency": "CHF"}, (422, "wrong_currency")),
        ({"amount": "0.00"}, (422, "invalid_request")),
        ({"amount": "NaN"}, (422, "invalid_request")),
    ],
)
def test_payments_that_are_refused(caller: Caller, change: dict[str, Any], expected: tuple[int, str]) -> None:
    assert caller.post("process-payment", {**PAYMENT, **change}, key=caller.key()).code == expected
    assert not Payment.objects.exists()


def test_a_refund_and_its_undoing(caller: Caller) -> None:
    payment, key = paid(caller), caller.key()
    body = {"payment_id": payment, "amount": "29.99", "return_transaction_id": 7}
    assert caller.post("process-refund", body, key=key).data["balance"] == "9970.01"
    again = caller.post("process-refund", body, key=caller.key())
    assert again.code == (409, "already_refunded")
    caller.post("reverse-refund", key=caller.key(), undoes=key)
    assert balance() == "9940.02"
    assert caller.post("process-refund", body, key=caller.key()).status == 200


def test_no_more_is_refunded_than_was_paid(caller: Caller) -> None:
    payment = paid(caller)
    body = {"payment_id": payment, "amount": "40.00"}
    assert caller.post("process-refund", body, key=caller.key()).status == 200
    assert caller.post("process-refund", body, key=caller.key()).code == (409, "more_than_paid")
    with pytest.raises(IntegrityError, match="payments_refunded_within_amount"):
        Payment.objects.update(refunded=60)


def test_refunds_that_are_refused(caller: Caller) -> None:
    unknown = {"payment_id": 9, "amount": "1.00"}
    assert caller.post("process-refund", unknown, key=caller.key()).code == (422, "unknown_payment")
    key = caller.key()
    payment = caller.post("process-payment", PAYMENT, key=key).data["payment_id"]
    caller.post("refund-payment", key=caller.key(), undoes=key)
    late = caller.post("process-refund", {"payment_id": payment, "amount": "1.00"}, key=caller.key())
    assert late.code == (409, "payment_not_paid")


def test_a_payment_with_a_refund_is_not_undone_as_a_whole(caller: Caller) -> None:
    key = caller.key()
    payment = caller.post("process-payment", PAYMENT, key=key).data["payment_id"]
    caller.post("process-refund", {"payment_id": payment, "amount": "1.00"}, key=caller.key())
    assert caller.post("refund-payment", key=caller.key(), undoes=key).code == (409, "already_refunded")


def test_refunds_racing_for_one_payment(caller: Caller) -> None:
    body = {"payment_id": paid(caller), "amount": "20.00"}
    answers = at_once(8, lambda number: Caller().post("process-refund", body, key=caller.key()).status)
    assert sorted(answers) == [200] * 2 + [409] * 6
    assert balance() == "9980.02"


def test_a_sale_that_was_paid_online_is_returned_through_its_payment(caller: Caller) -> None:
    items = [{**ITEMS[0], "price": "29.99"}]
    sale = {"store_id": 1, "customer_id": 123, "items": items, "payment_id": 5, "amount": "59.98"}
    key = caller.key()
    number = caller.post("create-sale", sale, key=key).data["sale_id"]
    assert caller.get(f"validate-transaction/{number}").data["payment_id"] == 5
    undo = caller.key()
    back = caller.post(
        "create-return", {"original_transaction_id": number, "employee_id": 1, "items": ITEMS}, key=undo
    )
    body = {"return_transaction_id": back.data["return_transaction_id"]}
    assert caller.post("refund-sale", body, key=caller.key()).code == (409, "paid_elsewhere")
    caller.post("cancel-return", key=caller.key(), undoes=undo)
    assert caller.post("cancel-sale", key=caller.key(), undoes=key).data["status"] == "CANCELLED"
    assert Transaction.objects.get(pk=number).status == "CANCELLED"


def test_prices_come_from_the_catalogue(caller: Caller) -> None:
    assert caller.get("product-info/456").data["price"] == "29.99"
    priced = caller.post("price-items", {"items": [*ITEMS, {"product_id": 457, "quantity": 1}]}).data
    assert (priced["total"], priced["currency"]) == ("64.98", "EUR")
    assert [line["quantity"] for line in priced["items"]] == [2, 1]


def test_products_that_are_not_for_sale(caller: Caller) -> None:
    assert caller.get("product-info/458").code == (409, "product_not_sold")
    assert caller.get("product-info/9").code == (422, "unknown_product")
    pen = {"items": [{"product_id": 458, "quantity": 1}]}
    assert caller.post("price-items", pen).code == (409, "product_not_sold")


def test_stores(caller: Caller) -> None:
    assert caller.get("store-info?store_id=1").data["city"] == "Lisbon"
    assert caller.get("store-info?store_id=9").code == (422, "unknown_store")
    pair = {"source_store_id": 1, "destination_store_id": 2}
    assert caller.post("check-stores", pair).data["destination"]["store_id"] == 2
    same = caller.post("check-stores", {**pair, "destination_store_id": 1})
    assert same.code == (422, "same_store")


def test_an_order_and_its_undoing(caller: Caller) -> None:
    key = caller.key()
    order = caller.post("create-order", ORDER, key=key).data["order_id"]
    caller.post("cancel-order", key=caller.key(), undoes=key)
    assert Order.objects.values_list("pk", "status").get() == (order, "CANCELLED")


def test_the_amount_of_an_order_agrees_with_its_prices(caller: Caller) -> None:
    priced = [{**ITEMS[0], "price": "29.99"}]
    wrong = {**ORDER, "items": priced, "amount": "59.99"}
    assert caller.post("create-order", wrong, key=caller.key()).code == (422, "amount_mismatch")
    assert caller.post("create-order", {**ORDER, "amount": None}, key=caller.key()).code == (422, "no_amount")
    computed = {**ORDER, "items": priced, "amount": None}
    assert caller.post("create-order", computed, key=caller.key()).data["amount"] == "59.98"


def test_a_replenishment_and_its_undoing(caller: Caller) -> None:
    approved, taken = caller.key(), caller.key()
    body = {"store_id": 1, "employee_id": 1, "items": ITEMS}
    request = caller.post("approve-request", body, key=approved).data["request_id"]
    caller.post("take-from-central", {**body, "request_id": request}, key=taken)
    assert CentralStock.objects.get(product_id=456).quantity == 998
    caller.post("return-to-central", key=caller.key(), undoes=taken)
    assert CentralStock.objects.get(product_id=456).quantity == 1000
    reopened = caller.post("reopen-request", key=caller.key(), undoes=approved).data
    assert reopened["status"] == "REQUESTED"
    again = caller.post("approve-request", {"request_id": request}, key=caller.key())
    assert again.data["status"] == "APPROVED"
    twice = caller.post("approve-request", {"request_id": request}, key=caller.key())
    assert twice.code == (409, "request_decided")


def test_a_rejection_is_kept_with_its_reason(caller: Caller) -> None:
    key = caller.key()
    body = {"store_id": 1, "items": [{"product_id": 456, "quantity": 501}]}
    refused = caller.post("approve-request", body, key=key)
    assert refused.code == (409, "request_rejected")
    assert caller.post("approve-request", body, key=key).raw == refused.raw
    request = ReplenishmentRequest.objects.get()
    assert (request.status, request.reason) == ("REJECTED", refused.document["reason"])


def test_the_centre_gives_what_it_has(caller: Caller) -> None:
    body = {"store_id": 1, "items": [{"product_id": 456, "quantity": 1001}]}
    assert caller.post("take-from-central", body, key=caller.key()).code == (409, "insufficient_stock")
    unknown = {"store_id": 1, "items": [{"product_id": 1, "quantity": 1}]}
    assert caller.post("take-from-central", unknown, key=caller.key()).code == (422, "unknown_product")
    assert caller.post("approve-request", {"store_id": 1}, key=caller.key()).code == (422, "invalid_request")


def test_a_message_is_followed_by_another_and_not_unsent(caller: Caller) -> None:
    key = caller.key()
    first = caller.post("send-confirmation", {"client_id": 123, "order_id": 5}, key=key).data["message_id"]
    caller.post("send-cancellation", key=caller.key(), undoes=key)
    kinds = Message.objects.order_by("id").values_list("kind", "follows", "order_id")
    assert list(kinds) == [("CONFIRMATION", None, 5), ("CANCELLATION", first, 5)]
