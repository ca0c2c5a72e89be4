"""Faults of participants: what each shows, and that without permission there are none."""

import json

import pytest
from pytest_django import Settings

from participants.inventory.models import Fault, Stock
from tests.participants import CREDENTIAL, Caller

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.urls("participants.urls"),
]
BASKET = {"store_id": 1, "items": [{"product_id": 456, "quantity": 2}]}


@pytest.fixture
def caller(settings: Settings) -> Caller:
    """A caller of a shop whose faults may be switched on."""
    settings.MIDDLEWARE = []
    settings.PARTICIPANTS = settings.PARTICIPANTS | {"CREDENTIALS": [CREDENTIAL], "FAULTS": True}
    Stock.objects.create(store_id=1, product_id=456, quantity=10)
    return Caller()


def switch_on(caller: Caller, kind: str, operation: str = "reserve-stock", **options: object) -> None:
    """Switch one fault on, at the root."""
    fault = json.dumps({"operation": operation, "kind": kind, **options})
    assert caller.send("POST", "/faults", fault).status == 201


def reserved() -> int:
    """How many pieces are reserved."""
    return Stock.objects.get().reserved


@pytest.mark.parametrize(
    ("kind", "status", "applied"),
    [
        ("error_before", 500, False),
        ("error_after", 500, True),
        ("unavailable", 503, False),
        ("too_early", 425, False),
        ("unauthorized", 401, False),
        ("not_found", 404, False),
        ("hang_before", 200, True),
        ("hang_after", 200, True),
        ("drip", 200, True),
    ],
)
def test_what_a_fault_answers_and_whether_the_effect_took_place(
    caller: Caller, kind: str, status: int, applied: bool
) -> None:
    switch_on(caller, kind, seconds=0.05)
    key = caller.key()
    assert caller.post("reserve-stock", BASKET, key=key).status == status
    assert reserved() == (2 if applied else 0)
    assert caller.status(key)["state"] == ("completed" if applied else "unknown")
    assert caller.post("reserve-stock", BASKET, key=key).status == 200
    assert reserved() == 2


def test_a_forced_refusal_is_committed_under_the_key(caller: Caller) -> None:
    switch_on(caller, "refuse", code="closed_today", reason="Stocktaking.")
    key = caller.key()
    for _ in range(2):
        assert caller.post("reserve-stock", BASKET, key=key).code == (409, "closed_today")
    assert caller.status(key)["code"] == "closed_today"
    assert caller.post("reserve-stock", BASKET, key=caller.key()).status == 200


def test_a_fault_hits_so_many_times_or_for_ever(caller: Caller) -> None:
    switch_on(caller, "error_before", times=2)
    answers = [caller.post("reserve-stock", BASKET, key=caller.key()).status for _ in range(3)]
    assert answers == [500, 500, 200]
    switch_on(caller, "error_before", times=None)
    assert {caller.post("reserve-stock", BASKET, key=caller.key()).status for _ in range(3)} == {500}
    assert caller.send("DELETE", "/faults").data == {"removed": 2}
    assert caller.post("reserve-stock", BASKET, key=caller.key()).status == 200


def test_a_fault_hits_only_what_it_matches(caller: Caller) -> None:
    switch_on(caller, "error_before", "*", match={"saga_id": "s-1", "store_id": 1}, times=None)
    assert caller.post("reserve-stock", BASKET, key=caller.key()).status == 200
    assert caller.post("reserve-stock", BASKET, key=caller.key(), X_Saga_Id="s-1").status == 500


def test_the_status_query_has_faults_of_its_own(caller: Caller) -> None:
    switch_on(caller, "error_before", "*", times=None)
    assert caller.get("operations/some").status == 200
    switch_on(caller, "unavailable", "operations")
    assert caller.get("operations/some").status == 503


def test_faults_are_listed_by_participant(caller: Caller) -> None:
    switch_on(caller, "cut", times=3)
    assert caller.send("GET", "/inventory/faults").data["inventory"][0]["remaining"] == 3
    assert caller.send("GET", "/personnel/faults").data == {"personnel": []}


def test_faults_that_make_no_sense(caller: Caller) -> None:
    for body in ('{"operation": "reserve-stock", "kind": "explode"}', "{", '{"kind": "cut"}'):
        assert caller.send("POST", "/faults", body).code == (422, "invalid_request")
    unknown = caller.send("POST", "/faults", '{"operation": "fly", "kind": "cut"}')
    assert unknown.code == (404, "unknown_operation")
    caller.credential = "wrong"
    assert caller.send("POST", "/faults", "{}").code == (401, "unauthorized")


def test_without_permission_there_are_no_faults(caller: Caller, settings: Settings) -> None:
    switch_on(caller, "error_before")
    settings.PARTICIPANTS = settings.PARTICIPANTS | {"FAULTS": False}
    assert caller.send("GET", "/faults").code == (404, "faults_disabled")
    assert caller.post("reserve-stock", BASKET, key=caller.key()).status == 200
    assert Fault.objects.get().remaining == 1
