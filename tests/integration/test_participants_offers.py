"""What participants offer beside sagas, over HTTP, and how sagas use it."""

import json
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone
from pytest_django import Settings

from participants.catalogue.models import Product
from participants.inventory.models import Stock, StockMovement
from participants.orders.models import Cart, Order
from participants.transactions.models import Transaction
from tests.participants import CREDENTIAL, Caller, Said, at_once

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.urls("participants.urls"),
]
LAMP = {"product_id": 456, "quantity": 2}
HOME = {"client_id": 123, "recipient": "Dora Lind", "street": "Rua 1", "postcode": "1000", "city": "Lisbon"}


class Desk(Caller):
    """Asks for what is offered beside sagas."""

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Said:
        """One request to `/<participant>/api/...`, given without the `api`."""
        participant, _, rest = path.partition("/")
        data = "" if body is None else json.dumps(body)
        return self.send(method, f"/{participant}/api/{rest}", data, **headers)


@pytest.fixture
def desk(settings: Settings) -> Desk:
    """A caller of the demo shop."""
    settings.MIDDLEWARE = []
    settings.PARTICIPANTS = settings.PARTICIPANTS | {"CREDENTIALS": [CREDENTIAL], "FAULTS": False}
    call_command("seed", stdout=StringIO())
    return Desk()


def test_a_product_is_added_repriced_and_archived(desk: Desk) -> None:
    added = desk.ask("POST", "catalogue/products", {"name": "Chair", "price": "49.90"})
    assert added.status == 201
    number = added.data["product_id"]
    assert desk.ask("PUT", f"catalogue/products/{number}/price", {"price": "45"}).data["price"] == "45.00"
    assert desk.get(f"product-info/{number}").data["price"] == "45.00"
    assert desk.ask("POST", f"catalogue/products/{number}/archive").data["active"] is False
    assert desk.get(f"product-info/{number}").code == (409, "product_not_sold")
    assert desk.ask("GET", f"catalogue/products/{number}").data["active"] is False
    active = desk.ask("GET", "catalogue/products?active=true").data["items"]
    assert [product["product_id"] for product in active] == [456, 457]


def test_lists_come_in_pages(desk: Desk) -> None:
    first = desk.ask("GET", "catalogue/products?limit=2").data
    assert (len(first["items"]), first["next"]) == (2, 457)
    rest = desk.ask("GET", "catalogue/products?limit=2&after=457").data
    assert (len(rest["items"]), rest["next"]) == (1, None)


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "catalogue/products/9", None, (404, "unknown_product")),
        ("GET", "catalogue/products/nine", None, (422, "invalid_request")),
        ("GET", "catalogue/products?limit=201", None, (422, "invalid_request")),
        ("POST", "catalogue/products", {"name": "", "price": "1"}, (422, "invalid_request")),
        ("PUT", "catalogue/products/456/price", {"price": "-1"}, (422, "invalid_request")),
        ("PUT", "catalogue/products/9/price", {"price": "1"}, (404, "unknown_product")),
        ("PATCH", "catalogue/products/456", None, (405, "method")),
        ("GET", "catalogue/nothing", None, (404, "not_found")),
        ("GET", "nobody/products", None, (404, "not_found")),
        ("GET", "payments/accounts", None, (404, "not_found")),
        ("PUT", "orders/carts/1/items/456", {"quantity": 1}, (404, "unknown_cart")),
        ("GET", "orders/carts", None, (422, "invalid_request")),
        ("POST", "supply_chain/requests/1/reject", {"reason": "no"}, (404, "unknown_request")),
        (
            "GET",
            "transactions/reports/sales?first=2026-02-01&last=2026-01-01",
            None,
            (422, "invalid_request"),
        ),
    ],
)
def test_what_is_refused(desk: Desk, method: str, path: str, body: object, expected: tuple[int, str]) -> None:
    assert desk.ask(method, path, body).code == expected


def test_without_a_credential_nothing_is_offered(desk: Desk) -> None:
    desk.credential = "wrong"
    assert desk.ask("GET", "catalogue/products").code == (401, "unauthorized")


def test_with_a_key_a_change_is_made_once(desk: Desk) -> None:
    key, body = desk.key(), {"name": "Chair", "price": "49.90"}
    first = desk.ask("POST", "catalogue/products", body, key=key)
    again = desk.ask("POST", "catalogue/products", body, key=key)
    assert (again.raw, again.status, again.headers["Idempotency-Replayed"]) == (first.raw, 201, "true")
    other = desk.ask("POST", "catalogue/products", {**body, "price": "1"}, key=key)
    assert other.code == (422, "key_mismatch")
    assert Product.objects.count() == 4
    assert desk.ask("POST", "catalogue/products", body, key="k" * 201).code == (400, "bad_header")


def ordering(desk: Desk) -> tuple[dict[str, Any], int]:
    """What a checkout is made of, from a cart with two lamps, and the cart."""
    home = desk.ask("POST", "orders/addresses", {**HOME, "country": "PT"}).data["address_id"]
    cart = desk.ask("POST", "orders/carts", {"client_id": 123, "store_id": 1}).data["cart_id"]
    desk.ask("PUT", f"orders/carts/{cart}/items/457", {"quantity": 3})
    desk.ask("PUT", f"orders/carts/{cart}/items/456", {"quantity": 1})
    desk.ask("PUT", f"orders/carts/{cart}/items/456", {"quantity": 2})
    desk.ask("DELETE", f"orders/carts/{cart}/items/457")
    return desk.ask("GET", f"orders/carts/{cart}/checkout?address_id={home}").data, cart


def priced(checkout: dict[str, Any]) -> dict[str, Any]:
    """The same as the order is asked for."""
    return {**checkout, "items": [{**LAMP, "price": "29.99"}]}


def test_an_order_is_made_from_a_cart_and_an_address(desk: Desk) -> None:
    checkout, cart = ordering(desk)
    home = checkout["address_id"]
    assert checkout == {
        "client_id": 123, "store_id": 1, "items": [LAMP], "cart_id": cart, "address_id": home,
    }  # fmt: skip
    key = desk.key()
    order = desk.post("create-order", priced(checkout), key=key).data["order_id"]
    assert desk.ask("GET", f"orders/carts/{cart}").data["order_id"] == order
    assert desk.ask("GET", f"orders/carts/{cart}/checkout").code == (409, "cart_closed")
    assert desk.ask("PUT", f"orders/carts/{cart}/items/457", {"quantity": 1}).code == (409, "cart_closed")
    desk.ask("DELETE", f"orders/addresses/{home}")
    shown = desk.ask("GET", f"orders/orders/{order}").data
    assert shown["delivery_address"] == "Dora Lind, Rua 1, 1000 Lisbon (PT)"
    desk.post("cancel-order", key=desk.key(), undoes=key)
    assert desk.ask("GET", f"orders/carts/{cart}/checkout").data["items"] == [LAMP]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"cart_id": 999_999}, (422, "unknown_cart")),
        ({"client_id": 124}, (422, "unknown_cart")),
        ({"store_id": 2}, (409, "cart_changed")),
        ({"items": [{**LAMP, "quantity": 3, "price": "29.99"}]}, (409, "cart_changed")),
        ({"address_id": 999_999}, (422, "unknown_address")),
    ],
)
def test_orders_that_a_cart_refuses(desk: Desk, change: dict[str, Any], expected: tuple[int, str]) -> None:
    checkout, cart = ordering(desk)
    assert desk.post("create-order", {**priced(checkout), **change}, key=desk.key()).code == expected
    assert not Order.objects.exists()
    assert Cart.objects.get(pk=cart).order_id is None


def test_a_cart_is_ordered_once(desk: Desk) -> None:
    checkout, _ = ordering(desk)

    def order(number: int) -> str:
        said = Desk().post("create-order", priced(checkout), key=desk.key())
        return str(said.document.get("code", "made"))

    assert sorted(at_once(6, order)) == ["cart_closed"] * 5 + ["made"]


def raised(desk: Desk, quantity: int = 50) -> int:
    """A request of store 1."""
    body = {"store_id": 1, "employee_id": 1, "items": [{"product_id": 457, "quantity": quantity}]}
    request: int = desk.ask("POST", "supply_chain/requests", body).data["request_id"]
    return request


def test_a_request_is_rejected_with_its_reason(desk: Desk) -> None:
    request = raised(desk)
    assert desk.ask("POST", f"supply_chain/requests/{request}/reject", {"reason": ""}).status == 422
    shown = desk.ask("POST", f"supply_chain/requests/{request}/reject", {"reason": "no room"}).data
    assert (shown["status"], shown["reason"]) == ("REJECTED", "no room")
    assert desk.ask("POST", f"supply_chain/requests/{request}/approve").code == (409, "request_decided")
    asked = {"request_id": request}
    assert desk.post("approve-request", asked, key=desk.key()).code == (409, "request_decided")
    found = desk.ask("GET", "supply_chain/requests?status=REJECTED&store_id=1").data["items"]
    assert [entry["request_id"] for entry in found] == [request]


def test_what_a_person_has_approved_is_delivered_once(desk: Desk) -> None:
    request = raised(desk, quantity=501)  # more than the rules allow
    desk.ask("POST", f"supply_chain/requests/{request}/approve")
    key, asked = desk.key(), {"request_id": request}
    assert desk.post("approve-request", asked, key=key).data["approved_before"] is True
    assert desk.post("approve-request", asked, key=desk.key()).code == (409, "request_decided")
    desk.post("reopen-request", key=desk.key(), undoes=key)
    assert desk.ask("GET", f"supply_chain/requests/{request}").data["status"] == "APPROVED"
    assert desk.post("approve-request", asked, key=desk.key()).status == 200


def test_a_saga_delivers_what_was_asked_for(desk: Desk) -> None:
    request = raised(desk)
    other = {"request_id": request, "store_id": 2, "items": [{"product_id": 457, "quantity": 50}]}
    assert desk.post("approve-request", other, key=desk.key()).code == (422, "request_differs")
    key = desk.key()
    assert desk.post("approve-request", {**other, "store_id": 1}, key=key).data["approved_before"] is False
    desk.post("reopen-request", key=desk.key(), undoes=key)
    assert desk.ask("GET", f"supply_chain/requests/{request}").data["status"] == "REQUESTED"


def test_stock_of_stores_and_centre(desk: Desk) -> None:
    items = [{"product_id": 900, "quantity": 7}]
    desk.ask("POST", "inventory/deliveries", {"store_id": 1, "items": items})
    shown = desk.ask("GET", "inventory/stock?store_id=1&product_id=900").data["items"]
    assert shown == [{"store_id": 1, "product_id": 900, "quantity": 7, "reserved": 0, "available": 7}]
    moved = desk.ask("GET", "inventory/movements?product_id=900").data["items"]
    assert [(entry["delta"], entry["kind"]) for entry in moved] == [(7, "DELIVERY")]
    assert len(desk.ask("GET", "inventory/stock").data["items"]) == Stock.objects.count() == 7
    assert StockMovement.objects.count() == 7
    desk.ask("POST", "supply_chain/deliveries", {"items": items * 2})
    centre = desk.ask("GET", "supply_chain/stock?product_id=900").data["items"]
    assert centre == [{"product_id": 900, "quantity": 14, "limit": 500}]


def traded(store: int, amount: str, *, days: int = 0, sale: Transaction | None = None) -> Transaction:
    """A finished sale, or a return of one."""
    trade = Transaction.objects.create(
        type="RETURN" if sale else "SALE",
        status="CONFIRMED",
        original=sale,
        store_id=store,
        customer_id=123,
        amount=Decimal(amount),
        created_at=timezone.now() - timedelta(days=days),
    )
    trade.lines.create(product_id=456, quantity=2, price=Decimal(amount) / 2)
    return trade


def test_indicators_and_the_consolidated_report(desk: Desk) -> None:
    sale = traded(1, "30.00")
    traded(1, "10.00")
    traded(1, "10.00", sale=sale)
    traded(2, "5.00")
    traded(2, "500.00", days=31)
    Transaction.objects.create(type="SALE", store_id=1, customer_id=123, amount=7)  # pending
    found = desk.ask("GET", "transactions/stores/1/indicators").data
    one = {
        "store_id": 1, "currency": "EUR", "sales": 2, "revenue": "40.00", "returns": 1, "returned": "10.00",
        "net": "30.00", "mean_basket": "20.00",
    }  # fmt: skip
    assert found["totals"] == [one]
    assert found["best_sold"] == [{"product_id": 456, "pieces": 4, "revenue": "40.00"}]
    report = desk.ask("GET", "transactions/reports/sales").data
    assert [row["store_id"] for row in report["stores"]] == [1, 2]
    assert report["totals"] == [
        {"currency": "EUR", "sales": 3, "revenue": "45.00", "returns": 1, "returned": "10.00",
         "net": "35.00", "mean_basket": "15.00"}
    ]  # fmt: skip
    day = (timezone.now() - timedelta(days=31)).date()
    old = desk.ask("GET", f"transactions/reports/sales?first={day}&last={day}").data
    assert [row["revenue"] for row in old["stores"]] == ["500.00"]
    assert desk.ask("GET", "transactions/stores/3/indicators").data["totals"] == []


@pytest.mark.parametrize("path", ["/openapi.json", "/orders/openapi.json"])
def test_the_documents_are_served_to_everybody(desk: Desk, path: str) -> None:
    desk.credential = "none"
    assert desk.send("GET", path).document["openapi"] == "3.1.0"
    assert desk.send("GET", "/nobody/openapi.json").status == 404
