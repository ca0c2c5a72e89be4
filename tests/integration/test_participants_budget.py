"""How many statements the operations of a sale cost, BEGIN and COMMIT not counted."""

from collections.abc import Callable
from io import StringIO
from itertools import count

import pytest
from django.core.management import call_command
from django.db import connections
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from participants.inventory.models import Reservation
from tests.participants import CREDENTIAL, Caller, Said

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.urls("participants.urls"),
]
ITEM = {"product_id": 456, "quantity": 2}
BASKET = {"store_id": 1, "items": [ITEM]}
SALE = {**BASKET, "employee_id": 1, "customer_id": 123, "items": [{**ITEM, "price": "29.99"}]}
CONTROL = ("BEGIN", "COMMIT", "ROLLBACK")


@pytest.fixture
def caller(settings: Settings) -> Caller:
    """A caller of the demo shop."""
    settings.MIDDLEWARE = []
    settings.PARTICIPANTS = settings.PARTICIPANTS | {"CREDENTIALS": [CREDENTIAL], "FAULTS": False}
    call_command("seed", stdout=StringIO())
    return Caller()


def statements(alias: str, call: Callable[[], Said]) -> int:
    """How many statements a successful call sends to the database."""
    with CaptureQueriesContext(connections[alias]) as captured:
        assert call().status == 200
    return sum(not query["sql"].startswith(CONTROL) for query in captured.captured_queries)


def test_statements_of_each_operation_of_a_sale(caller: Caller) -> None:
    numbers = count()
    keys = [f"key-{next(numbers)}" for _ in range(4)]
    spent = {
        "validate": statements(
            "personnel", lambda: caller.get("validate-employee/1?action=sell", key=keys[0])
        ),
        "reserve": statements("inventory", lambda: caller.post("reserve-stock", BASKET, key=keys[1])),
        "replay": statements("inventory", lambda: caller.post("reserve-stock", BASKET, key=keys[1])),
        "create": statements("transactions", lambda: caller.post("create-transaction", SALE, key=keys[2])),
    }
    confirmed = {"reservation_id": Reservation.objects.get().pk}
    spent["confirm"] = statements("inventory", lambda: caller.post("confirm-stock", confirmed, key=keys[3]))
    assert spent == {"validate": 4, "reserve": 6, "replay": 2, "create": 6, "confirm": 7}


def test_the_length_of_a_basket_adds_no_statements(caller: Caller) -> None:
    def cost(items: list[dict[str, int]]) -> int:
        body = {"store_id": 1, "items": items}
        return statements("inventory", lambda: caller.post("reserve-stock", body, key=caller.key()))

    assert cost([ITEM]) == cost([ITEM, {"product_id": 457, "quantity": 1}])
