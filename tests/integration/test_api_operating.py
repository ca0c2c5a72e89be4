"""Bulk interventions, circuits and pauses of a type: over HTTP, and by `manage.py sagas`."""

from __future__ import annotations

import getpass
from io import StringIO
from itertools import pairwise
from typing import Any
from unittest.mock import Mock
from uuid import UUID, uuid4

import pytest
import redis
from django.core.management import CommandError, call_command
from django.test import Client
from pytest_django import Settings
from rest_framework.test import APIClient

from sagas import breaker, bulk, dispatch, engine
from sagas.api import operating
from sagas.conf import conf
from sagas.interventions import Wish
from sagas.models import CircuitEvent, SagaEvent
from tests import stories
from tests.api import caller

pytestmark = pytest.mark.django_db

BULK = "/api/v1/interventions"
WHY = {"reason": "it is over"}
PARKED = {"filter": {"status": "parked", "type": "sales_saga"}}


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch) -> APIClient:
    monkeypatch.setattr(dispatch, "_send", lambda state, due, now: None)
    return caller("operator")


def ask(client: APIClient, body: dict[str, Any], key: str = "") -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    return client.post(BULK, {"reason": "recall", **body}, format="json", headers=headers)


# --- Bulk -------------------------------------------------------------------------------------------


def test_a_dry_run_is_what_happens_unless_told_otherwise(operator: APIClient) -> None:
    parked, done = stories.parked(), stories.completed()
    answer = ask(operator, {"verb": "retry", "ids": [str(parked.id), str(done.id), str(uuid4())]})
    assert answer.status_code == 200, answer.content
    assert (answer.json()["dry_run"], answer.json()["request_id"]) == (True, None)
    results = answer.json()["results"]
    assert [(one["became"], one["status"]) for one in results] == [
        ("changed", "in_progress"), ("refused", ""), ("refused", ""),
    ]  # fmt: skip
    assert results[0]["detail"] == (
        "keeps validate-employee; runs reserve-stock, create-transaction, confirm-stock, confirm-transaction"
    )
    assert "nothing to retry" in results[1]["detail"]
    assert engine.load(parked.id).status == "parked"


def test_a_real_run_does_it_to_each_and_its_repeat_nothing(operator: APIClient) -> None:
    sagas = [stories.parked() for _ in range(2)]
    body = {"verb": "compensate", "dry_run": False, **PARKED}
    first = ask(operator, body, "recall-1").json()
    assert [one["id"] for one in first["results"]] == [str(saga.id) for saga in sagas]
    assert first["counts"] == {"changed": 2, "unchanged": 0, "refused": 0}
    late = stories.parked()
    again = ask(operator, body, "recall-1").json()
    assert again["request_id"] == first["request_id"]
    assert [(one["id"], one["became"]) for one in again["results"]] == [
        (str(saga.id), "unchanged") for saga in sagas
    ]
    assert engine.load(late.id).status == "parked"
    asked = SagaEvent.objects.filter(kind="compensate")
    assert [(event.actor, event.reason) for event in asked] == [("operator", "recall")] * 2
    assert ask(operator, body | {"reason": "other"}, "recall-1").status_code == 422


def test_arguments_of_the_verb_stand_beside(operator: APIClient) -> None:
    saga = stories.parked()
    body = {"verb": "skip", "ids": [str(saga.id)], "dry_run": False, "reason": "done by hand"}
    missing = ask(operator, body)
    assert (missing.status_code, missing.json()["errors"][0]["field"]) == (400, "step")
    foreign = ask(operator, body | {"step": "reserve-stock", "outcome": "failed"})
    assert (foreign.status_code, foreign.json()["errors"][0]["field"]) == (400, "outcome")
    done = ask(operator, body | {"step": "reserve-stock", "data": {"reservation_id": 1}})
    assert done.json()["counts"]["changed"] == 1, done.content
    assert engine.load(saga.id).steps[1].status == "skipped"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"verb": "explode", **PARKED}, "verb"),
        ({"verb": "retry"}, "ids"),
        ({"verb": "retry", "ids": [str(uuid4())], **PARKED}, "ids"),
        ({"verb": "retry", "filter": {"type": "nothing"}}, "filter.type"),
        ({"verb": "retry", "filter": {"status": "sad"}}, "filter.status"),
        ({"verb": "retry", "limit": 0, **PARKED}, "limit"),
        ({"verb": "retry", "dry_run": "no", **PARKED}, "dry_run"),
        ({"verb": "retry", "reason": "", **PARKED}, "reason"),
        ({"verb": "execute", "reason": " ", "dry_run": False, **PARKED}, "reason"),
    ],
)
def test_a_wrong_wish_is_named(operator: APIClient, body: dict[str, Any], field: str) -> None:
    answer = ask(operator, body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)


def test_bulk_is_for_operators(operator: APIClient) -> None:
    body = {"verb": "retry", **PARKED}
    assert [ask(caller(role), body).status_code for role in ("viewer", "client")] == [403, 403]


def test_only_so_many_run_at_once(operator: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operating._places, "_value", 0)
    answer = ask(operator, {"verb": "retry", "dry_run": False, **PARKED})
    assert (answer.status_code, answer["Retry-After"]) == (429, "5")
    assert ask(operator, {"verb": "retry", **PARKED}).status_code == 200


def test_the_pace_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    at: list[float] = []
    monkeypatch.setattr("sagas.bulk.time.monotonic", lambda: now[0])

    def pause(seconds: float) -> None:
        now[0] += seconds

    order = bulk.Order("retry", "olga", "why", Wish())
    for _ in bulk.carry_out(
        order, [uuid4() for _ in range(5)], "r", ring=lambda *_: None, per_second=10, pause=pause
    ):
        at.append(now[0])
    assert [round(later - earlier, 3) for earlier, later in pairwise(at)] == [0.1] * 4


def test_the_command_line_does_the_same(operator: APIClient) -> None:
    saga = stories.parked()
    out = StringIO()
    options = {"status": "parked", "reason": "recall", "stdout": out}
    call_command("sagas", "compensate", dry_run=True, **options)
    assert f"{saga.id}  sales_saga parked: would be compensating" in out.getvalue()
    for _ in range(2):
        call_command("sagas", "compensate", request_id="r1", yes=True, **options)
    told = [line for line in out.getvalue().splitlines() if line.startswith(str(saga.id))]
    assert [line.split(": ")[1] for line in told] == ["would be compensating", *["is compensating"] * 2]
    assert SagaEvent.objects.filter(saga=saga.id, kind="compensate").count() == 1
    with pytest.raises(CommandError, match="1 of the sagas refused retry"):
        call_command("sagas", "retry", str(stories.completed().id), reason="x", stdout=out)
    with pytest.raises(CommandError, match="not both"):
        call_command("sagas", "retry", str(saga.id), status="parked", reason="x", stdout=out)


# --- Circuits ---------------------------------------------------------------------------------------


@pytest.fixture
def circuit(settings: Settings) -> str:
    settings.SAGAS = settings.SAGAS | {"PARTICIPANTS": {"bulkshop": {"url": "http://127.0.0.1:9"}}}
    state = redis.Redis.from_url(conf().redis_url)
    now = state.time()[0]
    state.hset(f"{breaker.PREFIX}bulkshop", mapping={"state": "open", "open_until": now + 30})
    return "bulkshop"


def test_circuits_are_seen_and_closed_by_hand(operator: APIClient, circuit: str) -> None:
    (shown,) = caller("viewer").get("/api/v1/circuits").json()["results"]
    assert (shown["participant"], shown["state"]) == (circuit, "open")
    assert 25 < shown["open_for_seconds"] <= 30
    path = f"/api/v1/circuits/{circuit}/close"
    assert caller("viewer").post(path).status_code == 403
    for untold in ({}, {"reason": " "}):
        answer = operator.post(path, untold, format="json")
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "reason")
    assert breaker.inspect()[circuit]["state"] == "open"
    closed = operator.post(path, {"reason": "it is back"}, format="json")
    assert (closed.status_code, closed.json()["state"]) == (200, "closed")
    event = CircuitEvent.objects.get()
    assert (event.participant, event.actor, event.reason) == (circuit, "operator", "it is back")
    assert operator.post("/api/v1/circuits/nobody/close", WHY, format="json").status_code == 404
    assert caller("client").get("/api/v1/circuits").status_code == 403


def test_without_redis_circuits_cannot_be_closed(
    operator: APIClient, circuit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: str) -> None:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(breaker, "reset", away)
    assert operator.post(f"/api/v1/circuits/{circuit}/close", WHY, format="json").status_code == 503


def test_the_command_line_closes_a_circuit_and_writes_who_and_why(
    circuit: str, admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = StringIO()
    call_command("sagas", "close-circuit", circuit, reason="it is back", stdout=out)
    assert (out.getvalue(), breaker.inspect()[circuit]["state"]) == (
        f"the circuit of {circuit} is closed\n", "closed",
    )  # fmt: skip
    page = admin_client.get("/admin/sagas/circuitevent/").content.decode()
    assert getpass.getuser() in page
    assert "it is back" in page
    with pytest.raises(CommandError, match="there is no participant 'nobody'; configured: bulkshop"):
        call_command("sagas", "close-circuit", "nobody", reason="x", stdout=out)
    away = redis.ConnectionError("away")
    monkeypatch.setattr(breaker, "reset", Mock(side_effect=away))
    with pytest.raises(CommandError, match="Redis is out of reach"):
        call_command("sagas", "close-circuit", circuit, reason="x", stdout=out)


# --- Pauses of a type ---------------------------------------------------------------------------------


def test_a_type_is_paused_and_resumed(operator: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PAUSES_KNOWN_FOR", -1.0)
    path = "/api/v1/definitions/sales_saga"
    paused = operator.post(f"{path}/pause", {"reason": "stocktaking"}, format="json").json()
    assert (paused["paused"], paused["actor"], paused["reason"]) == (True, "operator", "stocktaking")
    assert "sales_saga" in engine.paused_types()
    known = operator.get("/api/v1/definitions").json()["results"]
    assert [one["type"] for one in known if one["paused"]] == ["sales_saga"]
    assert caller("viewer").post(f"{path}/resume").status_code == 403
    assert operator.post(f"{path}/resume").status_code == 400
    assert operator.post(f"{path}/pause").status_code == 400
    assert operator.post(f"{path}/resume", WHY, format="json").json()["paused"] is False
    assert "sales_saga" not in engine.paused_types()
    assert operator.post("/api/v1/definitions/nothing/pause", WHY, format="json").status_code == 404


def test_resuming_what_is_not_there(operator: APIClient) -> None:
    assert operator.post("/api/v1/definitions/nothing/resume", WHY, format="json").status_code == 404


def test_ids_are_taken_once(operator: APIClient) -> None:
    saga: UUID = stories.parked().id
    answer = ask(operator, {"verb": "pause", "ids": [str(saga)] * 3, "dry_run": False})
    assert len(answer.json()["results"]) == 1
