"""The admin of a participant process."""

import os
import subprocess
import sys
from http.client import HTTPConnection
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings as configured
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client
from pytest_django import Settings

from participants.catalogue.models import Product
from participants.contract.backoffice import site
from participants.inventory.models import Stock
from participants.orders.models import Cart
from participants.supply_chain.models import ReplenishmentRequest
from tests.participants import CREDENTIAL, Caller
from tests.serving import served, url_of

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.urls("participants.urls"),
]
LIST = "/admin/supply_chain/replenishmentrequest/"


@pytest.fixture
def browser(settings: Settings) -> Client:
    """Somebody who may do everything, in the demo shop."""
    settings.MIDDLEWARE = ["participants.contract.backoffice.middleware"]
    settings.PARTICIPANTS = settings.PARTICIPANTS | {"CREDENTIALS": [CREDENTIAL]}
    call_command("seed", stdout=StringIO())
    get_user_model().objects.create_superuser("clerk", password="clerk")
    client = Client(enforce_csrf_checks=False)
    client.login(username="clerk", password="clerk")
    return client


def lines(*products: tuple[int, int]) -> dict[str, object]:
    """The form of the lines below a cart or a request."""
    form: dict[str, object] = {"lines-TOTAL_FORMS": len(products), "lines-INITIAL_FORMS": 0}
    for place, (product, quantity) in enumerate(products):
        form |= {f"lines-{place}-product_id": product, f"lines-{place}-quantity": quantity}
    return form


def test_every_page_can_be_seen(browser: Client) -> None:
    assert len(site._registry) > 15
    for model, shown in site._registry.items():
        path = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        assert browser.get(path).status_code == 200, path
        first = model._default_manager.first()
        if first is not None:
            assert browser.get(f"{path}{first.pk}/change/").status_code == 200, path
        if shown.search_fields:
            assert browser.get(f"{path}?q=1").status_code == 200, path


def test_a_stranger_sees_nothing(browser: Client) -> None:
    answer = Client().get("/admin/catalogue/product/")
    assert (answer.status_code, answer["Location"].partition("?")[0]) == (302, "/admin/login/")
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(get_user_model().objects.get())
    assert strict.post("/admin/catalogue/product/add/", {"name": "Chair", "price": "1"}).status_code == 403


def test_products_are_repriced_and_archived(browser: Client) -> None:
    Product.objects.exclude(pk=456).delete()
    form = {"form-TOTAL_FORMS": 1, "form-INITIAL_FORMS": 1, "form-0-id": 456, "form-0-price": "31.00"}
    browser.post("/admin/catalogue/product/", {**form, "_save": "Save"})
    browser.post("/admin/catalogue/product/", {"action": "archive", "_selected_action": [456]})
    product = Product.objects.get()
    assert (str(product.price), product.active) == ("31.00", False)
    assert browser.get("/admin/catalogue/product/456/delete/").status_code == 403


def test_stock_is_not_changed_by_hand(browser: Client) -> None:
    row = Stock.objects.earliest("pk")
    path = f"/admin/inventory/stock/{row.pk}/change/"
    assert browser.post(path, {"quantity": 1_000_000}).status_code == 403
    assert browser.get("/admin/inventory/stock/add/").status_code == 403


def test_a_cart_is_filled(browser: Client) -> None:
    form = {"client_id": 123, "store_id": 1, **lines((456, 2), (457, 1))}
    assert browser.post("/admin/orders/cart/add/", form).status_code == 302
    assert Cart.objects.get().lines.count() == 2


def test_requests_are_raised_and_decided(browser: Client) -> None:
    for _ in range(2):
        form = {"store_id": 1, "employee_id": 1, **lines((457, 10))}
        assert browser.post(f"{LIST}add/", form).status_code == 302
    one, other = ReplenishmentRequest.objects.order_by("pk")
    browser.post(LIST, {"action": "approve", "_selected_action": [one.pk]})
    answer = browser.post(
        LIST, {"action": "reject", "_selected_action": [other.pk], "reason": " "}, follow=True
    )
    assert "Give the reason" in answer.content.decode()
    both = {"action": "reject", "_selected_action": [one.pk, other.pk], "reason": "no room"}
    answer = browser.post(LIST, both, follow=True)
    assert f"Request {one.pk} is APPROVED." in answer.content.decode()
    found = ReplenishmentRequest.objects.order_by("pk").values_list("status", "reason")
    assert list(found) == [("APPROVED", ""), ("REJECTED", "no room")]


def test_services_are_called_without_cookies(browser: Client) -> None:
    answer = browser.get("/saga/product-info/456", headers={"Authorization": f"Bearer {CREDENTIAL}"})
    assert answer.status_code == 200
    assert "X-Frame-Options" not in answer
    assert Caller().get("product-info/456").status == 200


def test_the_main_admin_does_not_show_what_participants_own() -> None:
    labels = {model._meta.app_label for model in admin.site._registry}
    assert not labels & set(configured.PARTICIPANT_NAMES)


@pytest.mark.slow
def test_a_process_serves_the_admin_of_what_it_serves(transactional_db: None) -> None:
    environment = {
        **{f"{name.upper()}_DATABASE_URL": url_of(name) for name in configured.PARTICIPANT_NAMES},
        "BACKOFFICE_DATABASE_URL": url_of("default"),
        "PARTICIPANTS_SERVED": "catalogue",
        "PARTICIPANT_CREDENTIALS": CREDENTIAL,
    }
    with served("sagaproject.participant_wsgi:application", environment) as (url, _):
        connection = HTTPConnection(urlsplit(url).netloc, timeout=10)
        expected = {
            "/admin/login/": 200,
            "/admin/catalogue/product/": 302,
            "/static/admin/css/base.css": 200,
            "/static/nothing.css": 404,
        }
        for path, status in expected.items():
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            assert (path, answer.status) == (path, status)
        connection.close()


def test_the_settings_of_the_processes_are_in_order() -> None:
    command = [
        sys.executable,
        "-W",
        "error::DeprecationWarning",
        "manage.py",
        "check",
        "--fail-level=WARNING",
    ]
    done = subprocess.run(
        [*command, "--settings=sagaproject.participant_settings"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("variable", "secure"), [("DJANGO_BEHIND_TLS", False), ("PARTICIPANTS_BEHIND_TLS", True)]
)
def test_their_admin_asks_for_tls_only_where_a_proxy_of_its_own_ends_it(variable: str, secure: bool) -> None:
    names = "SESSION_COOKIE_SECURE, CSRF_COOKIE_SECURE"
    script = f"from sagaproject.participant_settings import {names}; print({names})"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        env={**os.environ, variable: "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(secure)] * 2
