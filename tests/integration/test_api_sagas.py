"""Starting, reading and listing sagas over HTTP, on a real PostgreSQL; the worker's part is done by hand."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from time import monotonic
from typing import Any
from uuid import UUID

import pytest
from django.db import OperationalError, connection, connections
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from sagas import dispatch, engine
from sagas.api import bell, listing, waiting
from sagas.definition import registry
from sagas.models import Saga
from sagas.state import Done, Refused, Unknown
from tests.api import SAGAS, caller, drive, sale, started

pytestmark = pytest.mark.django_db

REFUSAL = {"create-transaction": Refused("insufficient_funds", "Customer 124 has 5.00.")}


@pytest.fixture
def operator() -> APIClient:
    return caller("operator")


def post(client: APIClient, body: Any = None, **headers: str) -> Any:
    body = {"type": "sales_saga", "data": sale()} if body is None else body
    return client.post(SAGAS, body, format="json", headers=headers)


def test_start_answers_202_with_the_saga_and_its_location(operator: APIClient) -> None:
    answer = post(operator, **{"X-Correlation-Id": "order-7"})
    assert answer.status_code == 202
    saga = answer.json()
    assert answer["Location"] == f"{SAGAS}/{saga['id']}"
    assert answer["X-Correlation-Id"] == saga["correlation_id"] == "order-7"
    assert list(saga) == [
        "id", "type", "version", "status", "display_status", "data", "result", "error", "correlation_id",
        "created_at", "started_at", "finished_at", "deadline_at", "steps",
    ]  # fmt: skip
    assert list(saga["steps"][0]) == [
        "name", "status", "attempts", "result", "error", "started_at", "finished_at", "compensation",
    ]  # fmt: skip
    assert saga["steps"][0]["compensation"] == {
        "name": "invalidate-session", "status": "pending", "attempts": 0, "error": None,
        "started_at": None, "finished_at": None,
    }  # fmt: skip
    assert saga["steps"][-1]["compensation"] is None
    assert saga["data"]["items"][0]["price"] == "29.99"


def test_a_completed_saga_carries_its_business_ids(operator: APIClient) -> None:
    saga_id = started(operator)
    drive(saga_id)
    saga = operator.get(f"{SAGAS}/{saga_id}").json()
    assert (saga["status"], saga["display_status"]) == ("completed", "completed")
    assert saga["result"] == {"transaction_id": 3}
    assert [step["attempts"] for step in saga["steps"]] == [1] * 5


def test_a_refused_saga_tells_why_and_what_was_undone(operator: APIClient) -> None:
    saga_id = started(operator)
    drive(saga_id, REFUSAL)
    saga = operator.get(f"{SAGAS}/{saga_id}").json()
    assert saga["status"] == "compensated"
    assert saga["error"] == {
        "step": "create-transaction", "code": "insufficient_funds", "reason": "Customer 124 has 5.00.",
    }  # fmt: skip
    undone = {step["name"]: (step["compensation"] or {}).get("status") for step in saga["steps"]}
    assert undone == {
        "validate-employee": "completed", "reserve-stock": "completed", "create-transaction": "pending",
        "confirm-stock": "pending", "confirm-transaction": None,
    }  # fmt: skip


def test_effects_are_listed_with_whether_they_are_undone(operator: APIClient) -> None:
    saga_id = started(operator)
    drive(saga_id, {"create-transaction": Refused("no", "no"), "release-stock": Unknown("lost")})
    answer = operator.get(f"{SAGAS}/{saga_id}/compensations").json()
    assert [(e["step"], e["effect"], e["undone"]) for e in answer["results"]] == [
        ("validate-employee", "done", False),
        ("reserve-stock", "done", False),
        ("create-transaction", "none", None),
    ]
    assert answer["results"][1]["compensation"]["attempts"] > 0


def test_a_step_that_only_asked_has_nothing_to_undo(operator: APIClient) -> None:
    basket = {"client_id": 123, "store_id": 1, "items": [{"product_id": 456, "quantity": 2}]}
    body = {"type": "checkout_saga", "data": basket}
    saga_id = UUID(operator.post(SAGAS, body, format="json").json()["id"])
    priced = Done({"items": [], "total": "59.98", "currency": "EUR"})
    drive(saga_id, {"fetch-product": priced, "create-order": Refused("no", "no")})
    answer = operator.get(f"{SAGAS}/{saga_id}/compensations").json()
    assert [(e["step"], e["effect"], e["undone"]) for e in answer["results"]] == [
        ("verify-stock", "none", None),
        ("fetch-product", "none", None),
        ("reserve-stock", "undone", True),
        ("create-order", "none", None),
    ]


def test_display_status_names_the_step_under_way(operator: APIClient) -> None:
    saga_id = started(operator)
    drive(saga_id, steps=1)
    assert operator.get(f"{SAGAS}/{saga_id}").json()["display_status"] == "in_progress_reserve_stock"


def test_execute_false_waits_for_execute(operator: APIClient) -> None:
    answer = post(operator, {"type": "sales_saga", "data": sale(), "execute": False}, Prefer="wait=5")
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    saga_id = UUID(answer.json()["id"])
    assert engine.due_positions(engine.load(saga_id)) == ()
    answer = operator.post(f"{SAGAS}/{saga_id}/execute")
    assert answer.status_code == 202
    assert engine.due_positions(engine.load(saga_id)) == (0,)
    again = operator.post(f"{SAGAS}/{saga_id}/execute")
    assert again.json()["id"] == str(saga_id)


# --- Idempotency-Key -------------------------------------------------------------------------------


def test_the_same_key_answers_the_same_saga_and_another_body_is_422(operator: APIClient) -> None:
    first = post(operator, **{"Idempotency-Key": "k1"})
    again = post(operator, **{"Idempotency-Key": "k1"})
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    other = {"type": "sales_saga", "data": sale(customer_id=124)}
    answer = post(operator, other, **{"Idempotency-Key": "k1"})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:sagas:problem:idempotency-key-reused")
    assert Saga.objects.count() == 1


def test_a_key_is_scoped_to_its_user(operator: APIClient) -> None:
    mine = post(operator, **{"Idempotency-Key": "k1"}).json()
    theirs = post(caller("client"), **{"Idempotency-Key": "k1"}).json()
    assert mine["id"] != theirs["id"]


@pytest.mark.parametrize("key", ["", "a b", "ä", "x" * 256])
def test_a_key_that_is_none_is_refused(operator: APIClient, key: str) -> None:
    answer = post(operator, **{"Idempotency-Key": key})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"


@pytest.mark.django_db(transaction=True)
def test_concurrent_starts_with_one_key_yield_one_saga() -> None:
    client = caller("operator")
    client.post(SAGAS, {"type": "sales_saga", "data": sale()}, format="json")

    def start(_: int) -> str:
        try:
            return str(post(client, **{"Idempotency-Key": "same"}).json()["id"])
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(start, range(16)))
    assert len(ids) == 1
    assert Saga.objects.filter(idempotency_key="same").count() == 1


# --- Prefer: wait -----------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_wait_answers_200_with_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(state: Any, due: Any, now: Any) -> None:
        drive(state.id)
        connections.close_all()

    monkeypatch.setattr(dispatch, "ring", work)
    answer = post(caller("operator"), Prefer="wait=20")
    assert (answer.status_code, answer.json()["status"]) == (200, "completed")
    assert answer["Preference-Applied"] == "wait=20"
    tagged = caller("operator").get(
        f"{SAGAS}/{answer.json()['id']}", headers={"If-None-Match": answer["ETag"]}
    )
    assert tagged.status_code == 304


def test_wait_answers_202_when_the_time_is_over(operator: APIClient) -> None:
    answer = post(operator, Prefer="wait=1")
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    assert answer["Preference-Applied"] == "wait=1"


def test_without_preference_or_with_respond_async_nobody_waits(operator: APIClient) -> None:
    assert "Preference-Applied" not in post(operator)
    answer = operator.post("/api/saga/sales", sale(), format="json", headers={"Prefer": "respond-async"})
    assert (answer.status_code, answer["Preference-Applied"]) == (202, "respond-async")


def test_who_finds_no_place_to_wait_is_answered_at_once(
    operator: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting._places, "acquire", lambda blocking: False)
    answer = post(operator, Prefer="wait=60")
    assert answer.status_code == 202
    assert "Preference-Applied" not in answer


@pytest.mark.django_db(transaction=True)
def test_who_waits_gives_a_pooled_connection_back(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []
    monkeypatch.setattr(connection, "close", lambda: closed.append(True))
    waiting.release_connection()
    assert not closed  # a connection of one's own is kept
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "pool", {"max_size": 2})
    waiting.release_connection()
    assert closed


def test_a_database_that_goes_away_meanwhile_does_not_turn_a_start_into_an_error(
    operator: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise OperationalError

    monkeypatch.setattr(waiting, "_poll", away)
    assert post(operator, Prefer="wait=5").status_code == 202


# --- The broker ---------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_hanging_broker_delays_the_answer_by_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    released = Event()
    monkeypatch.setattr(dispatch, "ring", lambda *_: released.wait(30))
    monkeypatch.setattr(bell, "PATIENCE", 0.3)
    client = caller("operator")
    try:
        for _ in range(bell.RINGERS + 1):  # the last one finds no free ringer
            began = monotonic()
            assert post(client).status_code == 202
            assert monotonic() - began < 2
    finally:
        released.set()


@pytest.mark.django_db(transaction=True)
def test_a_failing_dispatch_is_not_the_callers_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no broker")

    monkeypatch.setattr(dispatch, "ring", fail)
    assert post(caller("operator")).status_code == 202


# --- Lists --------------------------------------------------------------------------------------------


def test_the_list_is_newest_first_and_pages_by_its_links(operator: APIClient) -> None:
    ids = [str(started(operator)) for _ in range(5)]
    page = operator.get(SAGAS, {"limit": 2}).json()
    assert (page["count"], page["previous"]) == (5, None)
    seen = [saga["id"] for saga in page["results"]]
    started(operator)  # what is started meanwhile must not shift the next page
    while page["next"]:
        page = operator.get(page["next"]).json()
        seen += [saga["id"] for saga in page["results"]]
    assert seen == ids[::-1]
    assert "offset=2" in page["previous"]


def test_filters_combine_and_empty_ones_count_for_nothing(operator: APIClient) -> None:
    done, refused = started(operator), started(operator)
    drive(done)
    drive(refused, REFUSAL)
    started(operator)

    def listed(**query: str) -> list[str]:
        return [saga["id"] for saga in operator.get(SAGAS, query).json()["results"]]

    assert listed(status="completed", type="sales_saga") == [str(done)]
    assert listed(status="compensated") == [str(refused)]
    assert len(listed(status="", type="", offset="")) == 3
    assert [saga["id"] for saga in operator.get("/api/saga/list/").json()["results"]] == listed(
        status="pending"
    )


@pytest.mark.parametrize(
    ("query", "field", "says"),
    [
        ({"status": "nice"}, "status", "'pending', 'in_progress'"),
        ({"type": "nice"}, "type", "sales_saga"),
        ({"limit": "201"}, "limit", "200"),
        ({"limit": "0"}, "limit", "1"),
        ({"offset": "-1"}, "offset", "0"),
        ({"offset": "10001"}, "offset", "next"),
        ({"before": "x"}, "before", "UUID"),
        ({"stats": "failed"}, "stats", "not permitted"),
    ],
)
def test_what_cannot_be_asked_for_is_named(
    operator: APIClient, query: dict[str, str], field: str, says: str
) -> None:
    answer = operator.get(SAGAS, query)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == field
    assert says in answer.json()["errors"][0]["message"]


def test_a_list_takes_three_statements_whatever_it_holds(operator: APIClient) -> None:
    for _ in range(6):
        started(operator)
    operator.get(SAGAS)  # permissions are asked for once per user object
    for limit in (1, 5):
        with CaptureQueriesContext(
            connection,
        ) as statements:
            assert len(operator.get(SAGAS, {"limit": limit}).json()["results"]) == limit
        assert len(statements) == 3


def test_one_saga_takes_two_statements_its_revision_alone_one_and_a_start_one(operator: APIClient) -> None:
    saga_id = started(operator)
    with CaptureQueriesContext(connection) as statements:
        tag = operator.get(f"{SAGAS}/{saga_id}")["ETag"]
    assert len(statements) == 2
    with CaptureQueriesContext(connection) as statements:
        operator.get(f"{SAGAS}/{saga_id}", headers={"If-None-Match": tag})
    assert len(statements) == 1
    with CaptureQueriesContext(connection) as statements:
        started(operator)
    assert len(statements) == 1


def test_above_its_bound_the_count_is_an_estimate(
    operator: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "COUNT_EXACTLY_UP_TO", 2)
    for _ in range(5):
        started(operator)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE sagas_saga")
    assert operator.get(SAGAS, {"type": "sales_saga"}).json()["count"] == 5


# --- Other names --------------------------------------------------------------------------------------


def test_the_bare_input_starts_a_sale(operator: APIClient) -> None:
    answer = operator.post("/api/saga/sales/", sale(), format="json", headers={"Prefer": "wait=0"})
    assert answer.status_code == 202
    status = operator.get(f"/api/saga/{answer.json()['id']}/status/")
    assert status.json() == answer.json()
    refused = operator.post("/api/saga/sales", sale(store_id="x"), format="json")
    assert refused.json()["errors"][0]["field"] == "store_id"


def test_definitions_name_every_installed_type(operator: APIClient) -> None:
    answer = operator.get("/api/v1/definitions").json()
    assert [definition["type"] for definition in answer["results"]] == registry.types()
    sales = next(d for d in answer["results"] if d["type"] == "sales_saga")
    assert sales["steps"][0] == {
        "name": "validate-employee", "compensation": "invalidate-session", "pivot": False,
    }  # fmt: skip
    assert sales["input_schema"]["properties"]["customer_id"]["minimum"] == 1
