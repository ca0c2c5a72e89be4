"""The contract of participants, shown on real databases: idempotency, barrier, status query."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http import HTTPStatus
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections, transaction
from django.utils import timezone
from pytest_django import Settings

from participants.contract.barrier import lock_number
from participants.inventory.models import Operation, Reservation, Stock
from tests.participants import CREDENTIAL, Caller, at_once

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.urls("participants.urls"),
]
ONE = {"store_id": 1, "items": [{"product_id": 456, "quantity": 2}]}
TOO_MANY = {"store_id": 1, "items": [{"product_id": 456, "quantity": 11}]}


@pytest.fixture
def caller(settings: Settings) -> Caller:
    """A caller of a shop that has ten pieces of product 456 in store 1."""
    settings.MIDDLEWARE = []
    settings.PARTICIPANTS = settings.PARTICIPANTS | {"CREDENTIALS": ["old", CREDENTIAL]}
    Stock.objects.create(store_id=1, product_id=456, quantity=10)
    return Caller()


def reserved() -> int:
    """How many pieces are reserved."""
    return Stock.objects.get().reserved


def test_same_key_and_body_replay_the_stored_answer_verbatim(caller: Caller) -> None:
    key = caller.key()
    first = caller.post("reserve-stock", ONE, key=key)
    again = caller.post("reserve-stock", ONE, key=key)
    assert first.status == again.status == HTTPStatus.OK
    assert first.raw == again.raw
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert reserved() == 2


def test_another_body_under_the_key_is_a_mismatch_and_changes_nothing(caller: Caller) -> None:
    key = caller.key()
    caller.post("reserve-stock", ONE, key=key)
    other = caller.post("reserve-stock", {**ONE, "store_id": 2}, key=key)
    assert other.code == (422, "key_mismatch")
    assert other.document["status"] == "failed"
    assert caller.status(key)["state"] == "completed"
    assert reserved() == 2


def test_another_operation_under_the_key_is_a_mismatch(caller: Caller) -> None:
    key = caller.key()
    caller.post("reserve-stock", ONE, key=key)
    assert caller.post("take-from-source", ONE, key=key).code == (422, "key_mismatch")


def test_the_key_is_looked_up_before_the_body_is_validated(caller: Caller) -> None:
    """[22]"""
    key = caller.key()
    caller.post("reserve-stock", ONE, key=key)
    assert caller.post("reserve-stock", "no json", key=key).code == (422, "key_mismatch")


def test_a_refusal_is_committed_and_replayed_although_it_would_succeed_now(caller: Caller) -> None:
    """[8]"""
    key = caller.key()
    refused = caller.post("reserve-stock", TOO_MANY, key=key)
    assert refused.code == (409, "insufficient_stock")
    Stock.objects.update(quantity=100)
    assert caller.post("reserve-stock", TOO_MANY, key=key).raw == refused.raw
    assert caller.status(key) == {
        "state": "failed",
        "operation": "reserve-stock",
        "code": "insufficient_stock",
        "reason": refused.document["reason"],
    }
    assert reserved() == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"store_id": 1, "items": []}, "items"),
        ({"store_id": 1, "items": [{"product_id": 456, "quantity": -1}]}, "items.0.quantity"),
        ({"items": ONE["items"]}, "store_id"),
        ({**ONE, "store_id": 2**63}, "store_id"),
        ("[]", "body"),
        ("{", "body"),
        ("[" * 5000, "body"),
        ('"\\ud800"', "body"),
    ],
)
def test_an_invalid_body_is_a_committed_refusal_that_names_the_field(
    caller: Caller, body: Any, field: str
) -> None:
    key = caller.key()
    refused = caller.post("reserve-stock", body, key=key)
    assert refused.code == (422, "invalid_request")
    assert refused.document["status"] == "failed"
    assert refused.document["reason"].startswith(f"{field}: ")
    assert caller.status(key)["state"] == "failed"


def test_a_compensation_undoes_by_the_key_of_the_action_alone(caller: Caller) -> None:
    """[12]"""
    key, undo = caller.key(), caller.key()
    caller.post("reserve-stock", ONE, key=key)
    undone = caller.post("release-stock", {}, key=undo, undoes=key)
    assert undone.data["status"] == "RELEASED"
    assert reserved() == 0
    assert caller.post("release-stock", {}, key=undo, undoes=key).raw == undone.raw
    assert caller.status(undo)["state"] == "completed"
    assert caller.status(key)["undone"] is True


def test_a_second_compensation_under_another_key_does_nothing(caller: Caller) -> None:
    key = caller.key()
    caller.post("reserve-stock", ONE, key=key)
    caller.post("reserve-stock", ONE, key=caller.key())
    caller.post("release-stock", {}, key=caller.key(), undoes=key)
    again = caller.post("release-stock", {}, key=caller.key(), undoes=key)
    assert again.data == {"nothing_to_undo": "already_undone"}
    assert reserved() == 2


def test_an_action_that_comes_after_its_compensation_is_refused(caller: Caller) -> None:
    """[22]"""
    key = caller.key()
    first = caller.post("release-stock", {}, key=caller.key(), undoes=key)
    assert first.data == {"nothing_to_undo": "never_applied"}
    for _ in range(2):
        assert caller.post("reserve-stock", ONE, key=key).code == (409, "compensated_first")
    assert caller.status(key)["code"] == "compensated_first"
    assert reserved() == 0


def test_the_compensation_of_a_refused_action_has_nothing_to_do(caller: Caller) -> None:
    key = caller.key()
    caller.post("reserve-stock", TOO_MANY, key=key)
    undone = caller.post("release-stock", {}, key=caller.key(), undoes=key)
    assert undone.data == {"nothing_to_undo": "refused"}


def test_a_new_generation_does_the_work_again(caller: Caller) -> None:
    """[11]"""
    key = caller.key()
    caller.post("reserve-stock", ONE, key=key)
    caller.post("release-stock", {}, key=caller.key(), undoes=key)
    assert caller.post("reserve-stock", ONE, key=caller.key()).status == HTTPStatus.OK
    assert reserved() == 2


def test_a_compensation_of_another_kind_of_action_is_a_mismatch(caller: Caller) -> None:
    key, undo = caller.key(), caller.key()
    caller.post("reserve-stock", ONE, key=key)
    assert caller.post("return-to-source", {}, key=undo, undoes=key).code == (422, "key_mismatch")
    assert caller.status(undo) == {"state": "unknown"}
    assert reserved() == 2


def test_a_compensation_key_repeated_for_another_action_leaves_no_tombstone(caller: Caller) -> None:
    key, other, undo = caller.key(), caller.key(), caller.key()
    caller.post("reserve-stock", ONE, key=key)
    caller.post("release-stock", {}, key=undo, undoes=key)
    assert caller.post("release-stock", {}, key=undo, undoes=other).code == (422, "key_mismatch")
    assert caller.post("reserve-stock", ONE, key=other).status == HTTPStatus.OK


def test_a_refused_compensation_is_kept_and_another_key_tries_again(caller: Caller) -> None:
    key, undo = caller.key(), caller.key()
    reservation = caller.post("reserve-stock", ONE, key=key).data["reservation_id"]
    Reservation.objects.update(status=Reservation.Status.CONFIRMED)
    refused = caller.post("release-stock", {}, key=undo, undoes=key)
    assert refused.code == (409, "reservation_confirmed")
    Reservation.objects.update(status=Reservation.Status.RESERVED)
    assert caller.post("release-stock", {}, key=undo, undoes=key).raw == refused.raw
    again = caller.post("release-stock", {}, key=caller.key(), undoes=key)
    assert again.data == {"reservation_id": reservation, "status": "RELEASED"}


def test_a_key_in_progress_answers_too_early_at_once(caller: Caller) -> None:
    """[22]"""
    key = caller.key()
    with held_by_another_process(key):
        early = caller.post("reserve-stock", ONE, key=key)
        assert early.code == (425, "in_progress")
        assert early.headers["Retry-After"] == "1"
        assert caller.post("release-stock", {}, key=caller.key(), undoes=key).status == 425
        assert caller.status(key) == {"state": "in_progress"}
    assert caller.status(key) == {"state": "unknown"}
    assert caller.post("reserve-stock", ONE, key=key).status == HTTPStatus.OK


@contextmanager
def held_by_another_process(key: str) -> Iterator[None]:
    """Holds a key as a call in progress would, from a connection of its own."""
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic(using="inventory"), connections["inventory"].cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s::bigint)", [lock_number(key)])
            taken.set()
            done.wait(30)
        connections.close_all()

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(30)
    yield
    done.set()
    thread.join(30)


def test_an_exception_commits_nothing(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("no disk")

    key = caller.key()
    with monkeypatch.context() as patch:
        patch.setattr("participants.inventory.stock.add_lines", broken)
        assert caller.post("reserve-stock", ONE, key=key).code == (500, "internal_error")
    assert caller.status(key) == {"state": "unknown"}
    assert reserved() == 0
    assert caller.post("reserve-stock", ONE, key=key).status == HTTPStatus.OK


def test_a_connection_that_died_is_replaced_and_the_call_served(caller: Caller) -> None:
    caller.post("reserve-stock", ONE, key=caller.key())
    with connections["inventory"].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (number,) = cursor.fetchone()
    kill_backend(number)
    assert caller.post("reserve-stock", ONE, key=caller.key()).status == HTTPStatus.OK
    assert reserved() == 4


def kill_backend(number: int) -> None:
    """Ends a connection of the database from another one."""

    def end() -> None:
        with connections["inventory"].cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [number])
        connections.close_all()

    thread = threading.Thread(target=end)
    thread.start()
    thread.join(30)


def test_status_of_an_unknown_key(caller: Caller) -> None:
    assert caller.status("never:seen") == {"state": "unknown"}


def test_status_is_found_at_the_root_and_at_the_participant_only(caller: Caller) -> None:
    key = caller.key()
    caller.post("reserve-stock", ONE, key=key)
    paths = {name: f"/{name}/saga/operations/{key}" for name in ("inventory", "personnel")}
    states = {name: caller.send("GET", path).data["state"] for name, path in paths.items()}
    assert states == {"inventory": "completed", "personnel": "unknown"}
    assert caller.status(key)["state"] == "completed"


@pytest.mark.parametrize("credential", ["", "wrong", "a-credential-for-test", "ä"])
def test_a_wrong_credential_is_unauthorized(caller: Caller, credential: str) -> None:
    caller.credential = credential
    assert caller.post("reserve-stock", ONE, key=caller.key()).code == (401, "unauthorized")
    assert caller.get("operations/some").code == (401, "unauthorized")
    assert not Operation.objects.exists()


def test_every_configured_credential_is_accepted(caller: Caller) -> None:
    caller.credential = "old"
    assert caller.post("reserve-stock", ONE, key=caller.key()).status == HTTPStatus.OK


def test_calls_that_name_no_usable_key(caller: Caller) -> None:
    assert caller.post("reserve-stock", ONE).code == (400, "bad_header")
    assert caller.post("reserve-stock", ONE, key="k" * 201).code == (400, "bad_header")
    assert caller.post("release-stock", {}, key=caller.key()).code == (400, "bad_header")
    assert caller.post("release-stock", {}, key="same", undoes="same").code == (400, "bad_header")


def test_what_is_not_there(caller: Caller) -> None:
    assert caller.post("no-such-thing", ONE, key=caller.key()).code == (404, "unknown_operation")
    assert caller.send("POST", "/personnel/saga/reserve-stock").code == (404, "unknown_operation")
    assert caller.send("POST", "/nobody/saga/reserve-stock").code == (404, "unknown_operation")
    assert caller.get("reserve-stock", key=caller.key()).code == (405, "method")
    assert caller.get("reserve-stock/1", key=caller.key()).code == (404, "unknown_operation")


def test_a_key_near_its_retention_is_refused_and_an_old_record_pruned(
    caller: Caller, settings: Settings
) -> None:
    """[23]"""
    now = timezone.now()
    fresh = (now - timedelta(days=28, hours=23)).isoformat()
    stale = (now - timedelta(days=29, minutes=1)).isoformat()
    key = caller.key()
    assert caller.post("reserve-stock", ONE, key=key, X_Key_Issued_At=fresh).status == HTTPStatus.OK
    late = caller.post("reserve-stock", ONE, key=caller.key(), X_Key_Issued_At=stale)
    assert late.code == (410, "key_expired")
    bad = caller.post("reserve-stock", ONE, key=caller.key(), X_Key_Issued_At="2026-01-01")
    assert bad.code == (400, "bad_header")
    undo = caller.post("release-stock", {}, key=caller.key(), undoes=key, X_Compensates_Issued_At=stale)
    assert undo.code == (410, "key_expired")
    Operation.objects.update(created_at=now - timedelta(days=31))
    young = caller.key()
    caller.post("reserve-stock", ONE, key=young)
    call_command("participants", "prune", stdout=StringIO())
    assert list(Operation.objects.values_list("key", flat=True)) == [young]


def test_the_operation_is_kept_with_its_saga(caller: Caller) -> None:
    caller.post("reserve-stock", ONE, key=caller.key(), X_Saga_Id="s-1", X_Saga_Step="reserve-stock")
    assert Operation.objects.values_list("saga_id", "step").get() == ("s-1", "reserve-stock")


def test_same_key_twenty_times_at_once_takes_effect_once(caller: Caller) -> None:
    key = caller.key()
    statuses = at_once(20, lambda number: Caller().post("reserve-stock", ONE, key=key).status)
    assert set(statuses) <= {200, 425}
    assert 200 in statuses
    assert reserved() == 2


@pytest.mark.parametrize("_round", range(10))
def test_action_and_compensation_at_once_leave_nothing(caller: Caller, _round: int) -> None:
    key, undo = caller.key(), caller.key()

    def call(number: int) -> int:
        if number % 2:
            return Caller().post("reserve-stock", ONE, key=key).status
        return Caller().post("release-stock", {}, key=undo, undoes=key).status

    assert set(at_once(8, call)) <= {200, 409, 425}
    caller.post("release-stock", {}, key=undo, undoes=key)
    assert caller.post("release-stock", {}, key=undo, undoes=key).status == HTTPStatus.OK
    assert reserved() == 0
    assert json.loads(caller.post("reserve-stock", ONE, key=key).raw)["status"] in {"failed", "success"}
    assert reserved() == 0
