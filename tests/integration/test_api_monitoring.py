"""Health, readiness, metrics and the documentation, over HTTP."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import time_machine
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import get_resolver
from redis import RedisError

from sagas import breaker, engine
from sagas.api import documentation, monitoring, readiness
from sagas.api.readiness import Readiness
from sagas.definition import registry
from sagas.metrics import DatabaseCollector
from sagas.models import Saga
from tests.api import SAGAS, caller, drive, sale, started

pytestmark = pytest.mark.django_db


# --- Health -----------------------------------------------------------------------------------------


def test_health_asks_nobody(settings: Any) -> None:
    settings.ALLOWED_HOSTS = []
    with CaptureQueriesContext(connection) as statements:
        answer = Client().get("/health", headers={"Host": "10.0.0.7"})
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert len(statements) == 0


def test_health_is_routed_where_the_middleware_is_not_installed(settings: Any) -> None:
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "Liveness" not in name]
    assert Client().get("/health").json() == {"status": "ok"}


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """Readiness that has not been asked before, and a participant that is not there."""
    monkeypatch.setattr(monitoring, "readiness", Readiness())
    settings.SAGAS = {"PARTICIPANTS": {"inventory": {"url": "http://127.0.0.1:9/inventory"}}}


@pytest.mark.usefixtures("probed")
@pytest.mark.django_db(transaction=True)
def test_ready_reports_what_is_away_and_still_says_200() -> None:
    engine.beat("canary")
    answer = Client().get("/health/ready")
    checks = answer.json()["checks"]
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert {checks[name]["status"] for name in ("database", "broker", "workers")} == {"ok"}
    assert checks["participants"] == {"inventory": {"status": "unreachable"}}


@pytest.mark.usefixtures("probed")
def test_without_the_database_nothing_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> dict[str, Any]:
        raise DatabaseError("password=secret")

    monkeypatch.setattr(readiness, "database", away)
    answer = Client().get("/health/ready")
    assert answer.status_code == 503
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["checks"]["database"]["status"] == "unreachable"
    assert b"secret" not in answer.content


@pytest.mark.parametrize(("age", "status"), [(None, "unknown"), (1.0, "ok"), (500.0, "late")])
def test_workers_are_judged_by_the_canarys_age(age: float | None, status: str) -> None:
    assert readiness.workers(age)["status"] == status


def test_a_probe_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from threading import Event

    released = Event()
    monkeypatch.setattr(readiness, "PROBE_TIMEOUT", 0.2)
    monkeypatch.setattr(readiness, "database", lambda: {"status": "ok"})
    monkeypatch.setattr(readiness, "broker", lambda: released.wait(30) and {})
    monkeypatch.setattr(readiness, "participant", lambda url: {"status": "ok"})
    try:
        checks = Readiness().checks()
    finally:
        released.set()
    assert checks["broker"] == {"status": "no answer in time"}
    assert checks["database"] == {"status": "ok"}


def test_findings_are_kept_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def database() -> dict[str, Any]:
        asked.append("database")
        return {"status": "ok"}

    monkeypatch.setattr(readiness, "database", database)
    monkeypatch.setattr(readiness, "broker", lambda: {"status": "ok"})
    monkeypatch.setattr(readiness, "participant", lambda url: {"status": "ok"})
    now = [0.0]
    ready = Readiness(clock=lambda: now[0])
    ready.checks()
    ready.checks()
    now[0] = 1.1
    ready.checks()
    assert len(asked) == 2


# --- Metrics ----------------------------------------------------------------------------------------


def test_metrics_hold_counters_and_gauges_from_the_database() -> None:
    drive(started(caller("operator")))
    text = Client().get("/metrics").content.decode()
    assert 'saga_started_total{type="sales_saga"}' in text
    assert 'saga_total{status="completed",type="sales_saga"} 1.0' in text
    assert "django_http_requests_total_by_method_total" in text
    assert "saga_database_up 1.0" in text


@pytest.mark.parametrize("hours", [-3, 3])
def test_ages_are_told_by_the_databases_clock(hours: int) -> None:
    engine.beat("canary")
    started(caller("operator"))
    (running,) = Saga.objects.all()
    engine.claim(running.id, 0, running.epoch, timedelta(minutes=1))
    with time_machine.travel(timedelta(hours=hours), tick=True):
        gauges = {gauge.name: gauge.samples for gauge in DatabaseCollector().collect()}
    ages = {sample.labels["task"]: sample.value for sample in gauges["saga_heartbeat_age_seconds"]}
    assert 0 <= ages["canary"] < 3600
    assert gauges["saga_stuck_count"][0].value == 0


def test_a_scrape_without_heartbeats_counts_all_the_same() -> None:
    with CaptureQueriesContext(connection) as statements:
        gauges = {gauge.name: gauge.samples for gauge in DatabaseCollector().collect()}
    assert gauges["saga_heartbeat_age_seconds"] == []
    assert gauges["saga_stuck_count"][0].value == 0
    assert len(statements) == 4


def test_metrics_go_on_without_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_: DatabaseCollector) -> None:
        raise DatabaseError

    monkeypatch.setattr(DatabaseCollector, "collect", away)
    text = Client().get("/metrics").content.decode()
    assert "saga_database_up 0.0" in text
    assert "saga_started_total" in text


def test_metrics_tell_which_circuits_hold_calls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {"inventory": {"state": "open"}, "payments": {"state": "closed"}, "orders": {"state": "unknown"}}
    monkeypatch.setattr(breaker, "inspect", lambda: shown)
    text = Client().get("/metrics").content.decode()
    assert 'saga_circuit_open{service="inventory"} 1.0' in text
    assert 'saga_circuit_open{service="payments"} 0.0' in text
    assert 'service="orders"' not in text


def test_metrics_go_on_without_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise RedisError

    monkeypatch.setattr(breaker, "inspect", away)
    text = Client().get("/metrics").content.decode()
    assert "saga_circuit_open{" not in text
    assert "saga_database_up 1.0" in text


def test_metrics_of_several_processes_come_from_their_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    text = Client().get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}).content
    assert b"saga_database_up 1.0" in text
    assert b"python_info" not in text


# --- Documentation ------------------------------------------------------------------------------------


@pytest.fixture
def document() -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(documentation.document())
    return parsed


def test_the_document_is_valid_and_without_warnings(tmp_path: Path) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", file=str(tmp_path / "openapi.yaml"))


def test_the_document_names_every_path_of_the_api(document: dict[str, Any]) -> None:
    routed = {
        f"/{path}".replace("<uuid:", "{")
        .replace("<str:", "{")
        .replace("<int:", "{")
        .replace(">", "}")
        .rstrip("/")
        for path in (str(getattr(pattern, "pattern", "")) for pattern in flat(get_resolver().url_patterns))
        if path.startswith("api/")
    }
    assert {path.rstrip("/") for path in document["paths"]} == routed


def test_every_group_of_endpoints_is_described(document: dict[str, Any]) -> None:
    used = {
        tag for path in document["paths"].values() for operation in path.values() for tag in operation["tags"]
    }
    assert document["tags"][0]["name"] == "sagas"
    assert used == {tag["name"] for tag in document["tags"]}


def flat(patterns: Any) -> Iterator[Any]:
    """The routes, those of included modules too."""
    for pattern in patterns:
        inner = getattr(pattern, "url_patterns", None)
        yield from flat(inner) if inner is not None else [pattern]


def test_examples_run_as_they_stand(document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PAUSES_KNOWN_FOR", -1.0)
    operator = caller("operator")
    given = {"client_id": 123, "name": "inventory", "saga_type": "sales_saga", "token": "of-nobody"}
    seen = Counter[int]()
    for path, operations in document["paths"].items():
        body = operations.get("post", {}).get("requestBody", {})
        for example in body["content"]["application/json"]["examples"].values() if body else ():
            url = path.format(**given, saga_id=started(operator))
            answer = operator.post(url, example["value"], format="json", headers={"Prefer": "wait=0"})
            assert answer.status_code in (200, 201, 202, 404, 409), (path, answer.content)
            assert answer.status_code < 300 or "{saga_id}" in path or "{token}" in path, (
                path,
                answer.content,
            )
            seen[answer.status_code] += 1
    assert seen[202] >= len(registry.types()) + 3 + 2  # the sagas, their shortcuts, the choreographies
    assert seen[201] == 1  # the webhook


def test_answers_are_as_documented(document: dict[str, Any]) -> None:
    operator = caller("operator")
    saga_id = started(operator)
    drive(saga_id)
    missing = operator.get(f"{SAGAS}/00000000-0000-0000-0000-000000000000")
    for component, answer in (
        ("SagaAnswer", operator.get(f"{SAGAS}/{saga_id}")),
        ("SagaPage", operator.get(SAGAS)),
        ("CompensationsAnswer", operator.get(f"{SAGAS}/{saga_id}/compensations")),
        ("DefinitionsAnswer", operator.get("/api/v1/definitions")),
        ("Problem", missing),
    ):
        schema = {**document, "$ref": f"#/components/schemas/{component}"}
        jsonschema.Draft202012Validator(schema).validate(answer.json())


def test_the_input_of_every_type_is_described(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["StartSaga"]["discriminator"]["mapping"]["sales_saga"].endswith("/StartSalesSaga")
    schema = {**document, "$ref": "#/components/schemas/StartSaga"}
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate({"type": "sales_saga", "data": sale()})
    assert list(validator.iter_errors({"type": "sales_saga", "data": sale(store_id=0)}))


def test_swagger_ui_runs_its_own_scripts_only() -> None:
    answer = Client().get("/api-docs", headers={"Accept": "text/html"})
    assert answer.status_code == 200
    assert b"<script>" not in answer.content
    assert answer["Content-Security-Policy"].startswith("default-src 'self'")
    script = Client().get("/api-docs?script=", headers={"Accept": "*/*"})
    assert b"SwaggerUIBundle" in script.content
    schema = Client().get("/api-docs/schema")
    assert schema["Content-Type"] == "application/vnd.oai.openapi+json"
    unchanged = Client().get("/api-docs/schema", headers={"If-None-Match": schema["ETag"]})
    assert unchanged.status_code == 304
