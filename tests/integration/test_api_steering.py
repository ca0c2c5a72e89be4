"""Interventions, signals and callbacks over HTTP."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from rest_framework.test import APIClient

from sagas import engine
from sagas.api.requests import ARGUMENTS, EXAMPLES
from sagas.definition import SagaDefinition, SagaView, Wait, approval, registry, signal, step
from sagas.interventions import VERBS
from sagas.models import SagaEvent
from sagas.state import Refused
from tests.api import SAGAS, caller, drive, started

pytestmark = pytest.mark.django_db

REFUSED = {"create-transaction": Refused("insufficient_funds", "not enough")}


class Patient(SagaDefinition, register=False):
    """Waits for a word, then for an operator's yes."""

    type = "test_patient"

    @step
    def hear(self, saga: SagaView) -> Wait:
        return signal("word")

    @step
    def boss_agrees(self, saga: SagaView) -> Wait:
        return approval("boss")

    def result(self, saga: SagaView) -> dict[str, Any]:
        return {"word": saga.results.hear["word"]}


@pytest.fixture
def operator() -> APIClient:
    return caller("operator")


@pytest.fixture
def patient(operator: APIClient, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of a saga that waits for a word."""
    monkeypatch.setitem(registry.by_key, ("test_patient", 1), Patient())
    answer = operator.post(SAGAS, {"type": "test_patient", "data": {}}, format="json")
    drive(UUID(answer.json()["id"]))
    return f"{SAGAS}/{answer.json()['id']}"


def test_every_verb_has_an_endpoint_and_a_body(operator: APIClient) -> None:
    saga_id = started(operator)
    for verb in VERBS.values():
        assert set(verb.arguments) <= set(ARGUMENTS)
        assert operator.get(f"{SAGAS}/{saga_id}/{verb.name}").status_code == 405


def test_retry_of_an_undone_saga_does_the_work_again_and_its_repeat_nothing(operator: APIClient) -> None:
    saga_id = started(operator)
    drive(saga_id, REFUSED)
    for _ in range(2):
        answer = operator.post(f"{SAGAS}/{saga_id}/retry", headers={"Idempotency-Key": "r1"})
        assert answer.status_code == 202
    drive(saga_id)
    state = engine.load(saga_id)
    assert (state.status, state.steps[0].generation) == ("completed", 1)
    again = operator.post(f"{SAGAS}/{saga_id}/retry", headers={"Idempotency-Key": "r1"})
    assert (again.status_code, again.json()["status"]) == (200, "completed")
    assert SagaEvent.objects.filter(saga_id=saga_id, kind="retry").count() == 1


def test_one_key_serves_several_verbs_and_however_long_it_is(operator: APIClient) -> None:
    saga_id, key = started(operator), {"Idempotency-Key": "k" * 255}
    drive(saga_id)
    assert operator.post(f"{SAGAS}/{saga_id}/compensate", headers=key).status_code == 202
    drive(saga_id)
    assert operator.post(f"{SAGAS}/{saga_id}/retry", headers=key).json()["status"] == "in_progress"


def test_compensating_twice_answers_the_state(operator: APIClient) -> None:
    saga_id = started(operator)
    drive(saga_id)
    operator.post(f"/api/saga/{saga_id}/compensate/")
    drive(saga_id)
    answer = operator.post(f"{SAGAS}/{saga_id}/compensate")
    assert (answer.status_code, answer.json()["status"]) == (200, "compensated")


def test_arguments_are_checked(operator: APIClient) -> None:
    path = f"{SAGAS}/{started(operator)}"
    for verb, body, field in (
        ("skip", {}, "step"),
        ("mark-done", {"step": "reserve-stock", "undo": "yes"}, "undo"),
        ("resolve", {"outcome": "nice"}, "outcome"),
        ("change-deadline", {"deadline": "2030-01-01T12:00:00"}, "deadline"),
        ("change-deadline", {"deadline": "9999-12-31T23:59:59-12:00"}, "deadline"),
        ("compensate", {"reason": "x" * 1001}, "reason"),
        ("compensate", {"step": "x"}, "step"),
    ):
        answer = operator.post(f"{path}/{verb}", {"reason": "why", **body}, format="json")
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)


@pytest.mark.parametrize("verb", VERBS)
def test_who_intervenes_in_what_is_not_theirs_says_why(operator: APIClient, verb: str) -> None:
    path = f"{SAGAS}/{started(caller('client'))}/{verb}"
    arguments = {name: EXAMPLES[name] for name in VERBS[verb].arguments}
    for blank in ({"reason": ""}, {"reason": " \n"}) + (({},) if verb != "execute" else ()):
        answer = operator.post(path, arguments | blank, format="json")
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "reason"), answer.content
    assert not SagaEvent.objects.filter(actor="operator").exists()


def test_who_started_a_saga_need_not_say_why_and_the_audit_has_a_reason(operator: APIClient) -> None:
    saga_id = started(operator, execute=False)
    for verb in ("execute", "compensate", "retry"):
        assert operator.post(f"{SAGAS}/{saga_id}/{verb}").status_code in (200, 202)
        drive(saga_id, REFUSED if verb == "retry" else None)
    asked = SagaEvent.objects.filter(saga_id=saga_id, kind__in=("execute", "compensate", "retry"))
    assert [(event.kind, event.reason) for event in asked.order_by("id")] == [
        (verb, "asked for by its owner") for verb in ("execute", "compensate", "retry")
    ]


def test_who_has_the_saga_of_another_run_need_not_say_why(operator: APIClient) -> None:
    saga_id = started(caller("client"), execute=False)
    assert operator.post(f"{SAGAS}/{saga_id}/execute").status_code == 202
    assert SagaEvent.objects.get(saga_id=saga_id, kind="execute").reason == "told to run"


def test_no_body_is_no_arguments_but_null_is_not_a_body(operator: APIClient) -> None:
    path = f"{SAGAS}/{started(operator)}/execute"
    assert operator.post(path).status_code == 202
    assert operator.generic("POST", path, "", content_type="application/json").status_code == 202
    assert operator.generic("POST", path, "null", content_type="application/json").status_code == 400


def test_pausing_skipping_and_another_deadline(operator: APIClient) -> None:
    saga_id = started(operator)
    path = f"{SAGAS}/{saga_id}"
    assert operator.post(f"{path}/pause", {"reason": "audit"}, format="json").status_code == 202
    assert engine.due_positions(engine.load(saga_id)) == ()
    deadline = {"deadline": "2130-01-01T12:00:00+02:00"}
    deadline["reason"] = "it takes longer"
    assert operator.post(f"{path}/change-deadline", deadline, format="json").json()["deadline_at"] == (
        "2130-01-01T10:00:00Z"
    )
    operator.post(f"{path}/resume", {"reason": "audited"}, format="json")
    skip = {"step": "validate-employee", "data": {}, "reason": "seen to by hand"}
    answer = operator.post(f"{path}/skip", skip, format="json")
    assert answer.json()["steps"][0]["status"] == "skipped"
    assert operator.post(f"{path}/skip", skip | {"step": "nothing"}, format="json").status_code == 409


def test_a_signal_counts_once_and_an_approval_is_one(operator: APIClient, patient: str) -> None:
    assert operator.get(patient).json()["display_status"] == "waiting_hear"
    for _ in range(2):
        answer = operator.post(
            f"{patient}/signals/word",
            {"data": {"word": "go"}},
            format="json",
            headers={"Idempotency-Key": "s1"},
        )
        assert answer.status_code == 202
    drive(UUID(patient.rsplit("/", 1)[1]))
    assert operator.get(patient).json()["display_status"] == "waiting_boss_agrees"
    answer = operator.post(f"{patient}/signals/boss", {"data": {"approved": True}}, format="json")
    assert (answer.status_code, answer.json()["result"]) == (200, {"word": "go"})
    assert operator.post(f"{patient}/signals/word").status_code == 409


def test_signals_are_for_those_who_steer(patient: str) -> None:
    assert caller("viewer").post(f"{patient}/signals/word").status_code == 403
    assert caller("client").post(f"{patient}/signals/word").status_code == 404


def test_a_callback_needs_a_token_from_here() -> None:
    answer = APIClient().post("/api/v1/callbacks/forged", {"status": "success"}, format="json")
    assert answer.status_code == 404


def test_graphs(operator: APIClient) -> None:
    saga_id = started(operator)
    assert "reserve-stock" in operator.get("/api/v1/definitions/sales_saga/graph").json()["mermaid"]
    assert operator.get(f"{SAGAS}/{saga_id}/graph").json()["mermaid"]
    assert operator.get("/api/v1/definitions/nothing/graph").status_code == 404
