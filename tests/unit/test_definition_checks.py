"""What reading a definition's source finds, and what its picture shows."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings
from pytest_django import Settings

from sagas import checks
from sagas.definition import Call, Participant, Retry, SagaDefinition, SagaView, registry, step
from sagas.graph import mermaid
from sagas.reading import findings
from sagas.retail.sales import SalesSaga
from tests.engine import registered

shop = Participant("shop")


def reserve(self: SagaDefinition, saga: SagaView) -> Call:
    return shop.post("reserve")


def pay(self: SagaDefinition, saga: SagaView) -> Call:
    return shop.post("pay", amount=1)


def looks_ahead(self: SagaDefinition, saga: SagaView) -> Call:
    return shop.get("look", saga.results.pay["id"])


def misspells(self: SagaDefinition, saga: SagaView) -> Call:
    return shop.get("look", saga.results.payy["id"])


def never(self: SagaDefinition, saga: SagaView) -> Call:
    return shop.get("look")


def define(*functions: Callable[..., object], **options: object) -> SagaDefinition:
    members: dict[str, object] = {"type": "read_me", "deadline": timedelta(seconds=30), "extensions": 0}
    for function in functions:
        members[function.__name__] = step(**options)(function) if options else step(function)  # type: ignore[call-overload]  # any options
    made = type("ReadMe", (SagaDefinition,), members, register=False)
    assert issubclass(made, SagaDefinition)
    return made()


@pytest.mark.parametrize(
    ("definition", "code", "text"),
    [
        (define(looks_ahead, pay), "E011", "ReadMe.looks_ahead refers to the result of pay"),
        (define(misspells), "E010", "refers to results.payy"),
        (define(never, when=lambda saga: False), "E012", "can never run"),
        (define(reserve, pay), "W010", "ReadMe.reserve has an effect and no compensation"),
        (define(never, retry=Retry(attempts=9, cap=timedelta(hours=1))), "W011", "given up after 30 s"),
    ],
)
def test_a_finding_names_the_place_and_the_mend(definition: SagaDefinition, code: str, text: str) -> None:
    found = [f for f in findings(definition) if f.code == code]
    assert len(found) == 1
    assert text in found[0].message
    assert found[0].hint


def test_a_sound_definition_has_no_findings() -> None:
    assert list(findings(SalesSaga())) == []


class Stranger(SagaDefinition, register=False):
    """Calls one that nobody knows, and is patient."""

    type = "stranger"

    @step(retry=Retry(attempts=20, cap=timedelta(hours=1)))
    def look(self, saga: SagaView) -> Call:
        return shop.get("look")


class Blind(SagaDefinition, register=False):
    """Reads the result of a step that comes later."""

    type = "blind"

    @step
    def look(self, saga: SagaView) -> Call:
        return shop.get("look", saga.results.pay["id"])

    @step
    def pay(self, saga: SagaView) -> Call:
        return shop.post("pay")


def said(definition: type[SagaDefinition] | None = None) -> set[tuple[str, bool]]:
    """What `manage.py check` says of a definition, or of all; each with whether it is an error."""
    about = definition.__name__ if definition is not None else ""
    return {
        (str(found.id), found.is_serious())
        for found in run_checks()
        if str(found.id).startswith("sagas.") and about in found.msg
    }


def test_a_definition_with_findings_fails_the_system_check() -> None:
    assert said() == set()
    with registered(Stranger, Blind):
        assert said(Stranger) == {("sagas.W006", False), ("sagas.W007", False), ("sagas.W011", False)}
        assert said(Blind) == {("sagas.E011", True), ("sagas.W007", False)}


@pytest.mark.parametrize(
    ("changes", "code", "serious"),
    [
        ({"SAGAS": {"LEASE_MARGIN": timedelta(0)}}, "E001", True),
        ({"SAGAS": {"LEASE_MARGIN": timedelta(seconds=-1)}}, "E001", True),
        ({"CELERY_TASK_SOFT_TIME_LIMIT": 30}, "E003", True),
        ({"CELERY_BROKER_TRANSPORT_OPTIONS": {"visibility_timeout": 30}}, "E004", True),
        ({"SAGAS": {"PARTICIPANTS": {}}}, "W007", False),
        ({"REST_FRAMEWORK": {}}, "W005", False),
    ],
)
def test_a_setting_that_does_not_fit_fails_the_system_check(
    settings: Settings, changes: dict[str, Any], code: str, serious: bool
) -> None:
    for name, value in changes.items():
        setattr(settings, name, settings.SAGAS | value if name == "SAGAS" else value)
    assert (f"sagas.{code}", serious) in said()


def test_a_project_without_definitions_is_told_where_they_belong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "by_key", {})
    assert said() == {("sagas.W002", False)}


def test_whoever_is_called_has_an_address() -> None:
    with registered(Stranger):
        (found,) = [m for m in checks.participants_known() if "Stranger" in m.msg]
        assert (found.id, "Stranger.look calls 'shop'" in found.msg) == ("sagas.W007", True)
        assert "SAGAS['PARTICIPANTS']['shop']" in str(found.hint)
        with override_settings(SAGAS={"PARTICIPANTS": {"shop": {"url": "http://shop"}}}):
            assert not [m for m in checks.participants_known() if "Stranger" in m.msg]


def test_a_pause_is_shorter_than_the_brokers_patience() -> None:
    with registered(Stranger), override_settings(CELERY_BROKER_TRANSPORT_OPTIONS={"visibility_timeout": 900}):
        (found,) = [m for m in checks.calls_fit_the_worker() if "Stranger" in m.msg]
    assert (found.id, "may pause for 3600 s" in found.msg) == ("sagas.W006", True)


def test_the_documentation_of_the_api_is_asked_for_where_the_api_is() -> None:
    assert checks.api_documented() == []
    with override_settings(REST_FRAMEWORK={}):
        (found,) = checks.api_documented()
        assert "'drf_spectacular_sidecar' to INSTALLED_APPS" in str(found.hint)
        with override_settings(ROOT_URLCONF="tests.unit.test_definition_checks"):
            assert checks.api_documented() == []


urlpatterns: list[object] = []  # of a project without the API


def test_the_picture_shows_steps_in_order_with_their_inverses() -> None:
    chart = mermaid(SalesSaga())
    assert chart.startswith("flowchart TD\n")
    assert (
        chart.index("validate-employee") < chart.index("reserve-stock") < chart.index("confirm-transaction")
    )
    assert "s1 -.-> u1" in chart
    assert "class " not in chart
