"""Every error over HTTP is a problem (RFC 9457) that names what is wrong and shows nothing of the inside."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
from django.db import InterfaceError, OperationalError
from django.test import Client
from django.test.client import FakePayload
from rest_framework.exceptions import Throttled
from rest_framework.test import APIClient, APIRequestFactory

from sagas import engine
from sagas.api import bodies, problems
from sagas.errors import Contended, LockHeld, UnknownSagaType
from sagas.models import Saga
from tests.api import SAGAS, caller, drive, sale, started

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator() -> APIClient:
    return caller("operator")


def is_problem(answer: Any, status: int) -> dict[str, Any]:
    """The problem in an answer, checked for what every problem has."""
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert list(body)[:7] == ["type", "title", "status", "detail", "instance", "correlation_id", "errors"]
    assert body["status"] == status
    assert body["correlation_id"] == answer["X-Correlation-Id"]
    return body


def raw(client: APIClient, body: Any, **more: Any) -> Any:
    return client.generic("POST", SAGAS, body, content_type="application/json", **more)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["type", "data"]),
        ([], [""]),
        ({"type": "sales_saga", "data": []}, ["data"]),
        ({"type": "nothing", "data": {}}, ["type"]),
        ({"type": "sales_saga", "data": sale(), "extra": 1}, ["extra"]),
        ({"type": "sales_saga", "data": sale(), "execute": "yes"}, ["execute"]),
        ({"type": "sales_saga", "data": sale(store_id=0, customer_id="1")},
         ["data.store_id", "data.customer_id"]),
        ({"type": "sales_saga", "data": sale(items=[{"product_id": 1, "quantity": 1, "price": "1.234"}])},
         ["data.items.0.price"]),
        ({"type": "sales_saga", "data": sale(unknown=1)}, ["data.unknown"]),
        ({"type": "sales_saga", "data": sale(amount="1.00")}, ["data"]),
        ({"type": "sales_saga", "data": sale(payment_method="a\0b")}, ["data.payment_method"]),
        ({"type": "sales_saga", "data": sale(payment_method="\ud800")}, ["data.payment_method"]),
    ],
)  # fmt: skip
def test_wrong_fields_are_named_by_their_path(operator: APIClient, body: Any, fields: list[str]) -> None:
    problem = is_problem(raw(operator, json.dumps(body)), 400)
    assert [error["field"] for error in problem["errors"]] == fields
    assert all(error["message"] for error in problem["errors"])
    assert not Saga.objects.exists()


@pytest.mark.parametrize(
    "body", ["", "{", '{"type": NaN}', b"\xff", "9" * 5000, '{"a": Infinity}', "[" * 100_000]
)
def test_what_is_not_json_is_400(operator: APIClient, body: str | bytes) -> None:
    is_problem(raw(operator, body), 400)


def test_depth_is_bounded(operator: APIClient) -> None:
    nested = "[" * (bodies.MAX_DEPTH + 1) + "]" * (bodies.MAX_DEPTH + 1)
    problem = is_problem(raw(operator, f'{{"type": "sales_saga", "data": {{"a": {nested}}}}}'), 400)
    assert "levels" in problem["errors"][0]["message"]


def test_a_number_that_no_database_holds_is_named(operator: APIClient) -> None:
    problem = is_problem(raw(operator, '{"type": "sales_saga", "data": {"a": [1e999]}}'), 400)
    assert problem["errors"][0]["field"] == "data.a.0"


def test_size_is_bounded(operator: APIClient, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    is_problem(raw(operator, json.dumps({"a": "x" * 1000})), 413)


def test_a_body_in_chunks_is_not_taken_for_none(operator: APIClient) -> None:
    saga_id = started(operator)
    for path in (SAGAS, f"{SAGAS}/{saga_id}/signals/word", f"{SAGAS}/{saga_id}/pause"):
        # as a server hands it over: its length is not known
        body: Any = {"wsgi.input": FakePayload(b'{"data": {"word": "go"}}'), "CONTENT_LENGTH": ""}
        chunked: Any = {**body, "HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_TYPE": "application/json"}
        problem = is_problem(operator.generic("POST", path, **chunked), 411)
        assert problem["type"] == "urn:sagas:problem:length-required"
    assert engine.load(saga_id).mailbox == ()
    assert engine.load(saga_id).paused_at is None


def test_a_body_in_chunks_is_documented_wherever_a_body_is_taken(operator: APIClient) -> None:
    paths = operator.get("/api-docs/schema", headers={"Accept": "application/json"}).json()["paths"]
    taking = [one for path in paths.values() for one in path.values() if "requestBody" in one]
    assert len(taking) > 20
    assert [one["operationId"] for one in taking if "411" not in one["responses"]] == []


def test_without_credentials_401_names_the_scheme() -> None:
    for client in (APIClient(), APIClient(headers={"Authorization": "Token wrong"})):
        answer = client.get(SAGAS)
        is_problem(answer, 401)
        assert answer["WWW-Authenticate"] == "Token"


@pytest.mark.parametrize(
    "path",
    [f"{SAGAS}/{uuid4()}", f"{SAGAS}/{uuid4()}/compensations", f"{SAGAS}/1", "/api/nothing", "/nothing"],
)
def test_what_is_not_there_is_404(operator: APIClient, path: str) -> None:
    is_problem(operator.get(path), 404)


@pytest.mark.parametrize("verb", ["execute", "compensate", "retry", "pause", "signals/go"])
def test_what_is_not_there_cannot_be_steered(operator: APIClient, verb: str) -> None:
    body = {} if "/" in verb else {"reason": "why"}
    is_problem(operator.post(f"{SAGAS}/{uuid4()}/{verb}", body, format="json"), 404)
    if verb != "pause":
        is_problem(operator.post(f"{SAGAS}/{uuid4()}/{verb}"), 404)


def test_the_admin_keeps_its_pages() -> None:
    answer = Client().get("/admin/nothing-here/", follow=True)
    assert answer["Content-Type"].startswith("text/html")


def test_other_methods_and_media_types(operator: APIClient) -> None:
    answer = operator.put(SAGAS)
    is_problem(answer, 405)
    assert set(answer["Allow"].split(", ")) >= {"GET", "POST"}
    is_problem(operator.post(SAGAS, {"type": "sales_saga"}), 415)
    is_problem(operator.get(SAGAS, headers={"Accept": "text/html"}), 406)


def test_what_the_state_forbids_is_409_and_says_what_would_do(operator: APIClient) -> None:
    saga_id = started(operator)
    drive(saga_id)
    problem = is_problem(operator.post(f"{SAGAS}/{saga_id}/retry"), 409)
    assert "nothing to retry" in problem["detail"]


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (OperationalError("password=secret"), 503, "5"),
        (InterfaceError("password=secret"), 503, "5"),
        (Contended("changed 20 times"), 503, "1"),
        (UnknownSagaType("no code"), 503, None),
        (LockHeld("locked"), 409, None),
        (RuntimeError("password=secret"), 500, None),
    ],
)
def test_failures_inside_stay_inside(
    operator: APIClient,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    retry_after: str | None,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    saga_id = started(operator)
    monkeypatch.setattr(engine, "load", fail)
    answer = operator.get(f"{SAGAS}/{saga_id}")
    is_problem(answer, status)
    assert answer.get("Retry-After") == retry_after
    assert b"secret" not in answer.content


def test_throttling_tells_when_to_come_back() -> None:
    answer = problems.handler(Throttled(wait=3.2), {"request": APIRequestFactory().get("/x")})
    assert (answer.status_code, answer["Retry-After"]) == (429, "4")
    assert answer.data["type"] == "urn:sagas:problem:too-many-requests"


def test_a_session_needs_the_csrf_token(django_user_model: Any) -> None:
    user = django_user_model.objects.create_superuser("root")
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    assert client.get(SAGAS).status_code == 200
    body = {"type": "sales_saga", "data": sale()}
    is_problem(client.post(SAGAS, body, content_type="application/json"), 403)
    client.get("/admin/", follow=True)
    client.cookies["csrftoken"] = "x" * 32
    answer = client.post(SAGAS, body, content_type="application/json", headers={"X-CSRFToken": "x" * 32})
    assert answer.status_code == 202


def test_answers_carry_headers_that_keep_browsers_at_bay(operator: APIClient) -> None:
    answer = operator.get(SAGAS)
    assert answer["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert answer["Cache-Control"] == "private, no-cache"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["X-Frame-Options"] == "DENY"
