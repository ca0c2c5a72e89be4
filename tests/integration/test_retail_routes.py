"""The thin routes that start a sale, a return and a checkout, with the bare input as their body."""

from typing import Any
from uuid import UUID

import pytest
from django.db import connections
from rest_framework.test import APIClient

from sagas import dispatch
from sagas.api import waiting
from sagas.definition import registry
from sagas.state import SagaState
from tests.api import caller
from tests.business import INPUTS
from tests.retail import drive, original

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.usefixtures("shop"),
]
ROUTES = {
    "/api/saga/sales": "sales_saga",
    "/api/saga/returns": "return_saga",
    "/api/saga/checkout/": "checkout_saga",
}


@pytest.fixture
def client() -> APIClient:
    """Somebody who may start sagas."""
    return caller("client")


def post(client: APIClient, route: str, data: Any) -> Any:
    """Start a saga without waiting for its end, since nobody works on it meanwhile."""
    return client.post(route, data, format="json", headers={"Prefer": "wait=0"})


@pytest.mark.parametrize(("route", "saga_type"), ROUTES.items())
def test_a_route_starts_its_saga(client: APIClient, route: str, saga_type: str) -> None:
    given = INPUTS[saga_type]
    if saga_type == "return_saga":
        given = given | {"original_transaction_id": original("in store")}
    answer = post(client, route, given)
    assert answer.status_code == 202, answer.content
    drive(UUID(answer.json()["id"]))
    status = client.get(f"/api/saga/{answer.json()['id']}/status/").json()
    assert (status["type"], status["status"]) == (saga_type, "completed")


def test_a_route_answers_with_the_end_though_nobody_asked_it_to_wait(
    client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(state: SagaState, *_: object) -> None:
        drive(state.id)
        connections.close_all()

    monkeypatch.setattr(dispatch, "ring", work)
    answer = client.post("/api/saga/sales", INPUTS["sales_saga"], format="json")
    assert (answer.status_code, answer.json()["status"]) == (200, "completed")


def test_every_route_waits_for_30_seconds_unless_told_otherwise(
    client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def poll(state: SagaState, seconds: float) -> SagaState:
        waited.append(seconds)
        return state

    monkeypatch.setattr(waiting, "_poll", poll)
    for route, saga_type in ROUTES.items():
        assert client.post(route, INPUTS[saga_type], format="json").status_code == 202
        client.post(route, INPUTS[saga_type], format="json", headers={"Prefer": "wait=3"})
        post(client, route, INPUTS[saga_type])
    assert waited == [30, 3] * len(ROUTES)


@pytest.mark.parametrize(("route", "saga_type"), ROUTES.items())
def test_a_route_refuses_a_wrong_input_by_its_fields(client: APIClient, route: str, saga_type: str) -> None:
    answer = post(client, route, INPUTS[saga_type] | {"items": [], "colour": "red"})
    assert answer.status_code == 400
    assert {error["field"] for error in answer.json()["errors"]} == {"items", "colour"}


def test_a_checkout_is_shown_under_its_own_names(client: APIClient) -> None:
    started = post(client, "/api/saga/checkout/", INPUTS["checkout_saga"]).json()
    assert started["display_status"] == "awaiting_start"
    drive(UUID(started["id"]))
    assert client.get(f"/api/saga/{started['id']}/status/").json()["display_status"] == "finished"
    items = [{"product_id": 456, "quantity": 1000}]
    refused = post(client, "/api/saga/checkout/", INPUTS["checkout_saga"] | {"items": items}).json()
    drive(UUID(refused["id"]))
    ended = client.get(f"/api/v1/sagas/{refused['id']}").json()
    assert (ended["status"], ended["display_status"]) == ("failed", "failed_insufficient_stock")


@pytest.mark.parametrize("saga_type", INPUTS)
def test_every_type_is_started_by_the_canonical_call(client: APIClient, saga_type: str) -> None:
    body = {"type": saga_type, "data": INPUTS[saga_type], "execute": False}
    answer = client.post("/api/v1/sagas", body, format="json")
    assert (answer.status_code, answer.json()["display_status"]) == (202, "awaiting_start")
    _, stored = registry.latest(saga_type).parse(INPUTS[saga_type])
    assert answer.json()["data"] == stored
