"""Interventions from the admin: foreseen, given a reason, permitted, done once, written down."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from kombu.exceptions import OperationalError

from sagas import dispatch, engine, interventions
from sagas.admin import confirm
from sagas.admin.verbs import OFFERS
from sagas.models import SagaEvent
from sagas.state import SagaState, Status, StepStatus
from tests import stories

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore:No directory at:UserWarning"),  # static files were not collected
]


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[SagaState]:
    """The sagas that were rung for."""
    heard: list[SagaState] = []
    monkeypatch.setattr(dispatch, "_send", lambda state, due, now: heard.append(state))
    return heard


@pytest.fixture
def operator(client: Client, rung: list[SagaState]) -> Client:
    """A client logged in as one who may look, compensate, retry and steer."""
    return logged_in(client, "olga", "view_saga", "compensate_saga", "retry_saga", "steer_saga")


def logged_in(client: Client, name: str, *codenames: str) -> Client:
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(user)
    return client


def url(verb: str) -> str:
    return reverse("admin:sagas_saga_intervene", args=[verb])


def form_of(page: str) -> dict[str, Any]:
    """The hidden fields of the confirmation page's form."""
    form = page[page.index('class="saga-confirm"') :]
    sagas = re.findall(r'name="saga" value="([^"]+)"', form)
    request_id = re.search(r'name="request_id" value="([^"]+)"', form)
    assert request_id is not None
    return {"saga": sagas, "request_id": request_id[1]}


def ask(client: Client, verb: str, *states: SagaState) -> str:
    answer = client.get(url(verb), {"saga": [str(state.id) for state in states]})
    assert answer.status_code == 200
    return html.unescape(answer.content.decode())


def do(client: Client, verb: str, *states: SagaState, **fields: Any) -> str:
    """Ask, confirm, and read the page that follows."""
    sent = form_of(ask(client, verb, *states)) | {"reason": "because"} | fields
    return html.unescape(client.post(url(verb), sent, follow=True).content.decode())


def test_every_verb_of_the_engine_is_offered() -> None:
    assert set(interventions.VERBS) <= set(OFFERS)
    asked = {name for offer in OFFERS.values() for name in offer.arguments}
    assert asked <= set(confirm.FIELDS)


def test_compensate_undoes_and_writes_who_and_why(operator: Client, rung: list[SagaState]) -> None:
    state = stories.completed()
    page = do(operator, "compensate", state, reason="the customer has left")
    assert "is compensating" in page
    row = SagaEvent.objects.get(saga=state.id, kind="compensate")
    assert (row.actor, row.reason) == ("olga", "the customer has left")
    assert engine.load(state.id).status is Status.COMPENSATING
    assert [heard.id for heard in rung] == [state.id]


def test_the_confirmation_foresees_what_will_be_undone_in_order(operator: Client) -> None:
    state = stories.completed()
    page = ask(operator, "compensate", state)
    assert "reverse-stock-confirmation, cancel-transaction, release-stock, invalidate-session" in page
    assert engine.load(state.id).rev == state.rev


def test_retry_runs_a_compensated_saga_again_under_new_keys(operator: Client, rung: list[SagaState]) -> None:
    state = stories.refused()
    assert "with a new idempotency key: validate-employee, reserve-stock, create-transaction" in re.sub(
        r"<[^>]+>", "", ask(operator, "retry", state)
    )
    do(operator, "retry", state)
    again = engine.load(state.id)
    assert again.status is Status.IN_PROGRESS
    assert [step.generation for step in again.steps][:3] == [1, 1, 1]
    assert rung


@pytest.mark.parametrize("reason", ["", "   ", "\n"])
def test_no_reason_no_intervention(operator: Client, reason: str, rung: list[SagaState]) -> None:
    state = stories.parked()
    page = do(operator, "retry", state, reason=reason)
    assert "Say why" in page
    assert engine.load(state.id).rev == state.rev
    assert not rung


def test_a_form_sent_twice_acts_once(operator: Client) -> None:
    state = stories.refused()
    sent = form_of(ask(operator, "retry", state)) | {"reason": "paid in"}
    for _ in range(3):
        assert "is in progress" in operator.post(url("retry"), sent, follow=True).content.decode()
    assert SagaEvent.objects.filter(saga=state.id, kind="retry").count() == 1
    assert [step.generation for step in engine.load(state.id).steps][:3] == [1, 1, 1]


def test_a_form_with_a_choice_sent_twice_acts_once(operator: Client) -> None:
    state = stories.parked()
    sent = form_of(ask(operator, "skip", state)) | {"reason": "done by phone", "step": "reserve-stock"}
    for _ in range(2):
        page = operator.post(url("skip"), sent, follow=True).content.decode()
        assert "is in progress" in page
    assert SagaEvent.objects.filter(saga=state.id, kind="skip").count() == 1


def test_one_refusal_does_not_keep_the_others(operator: Client) -> None:
    good, bad, idle = stories.completed(), stories.failed(), stories.refused()
    page = do(operator, "compensate", good, bad, idle)
    assert f"{str(good.id)[:18]} (sales_saga) is compensating" in page
    assert f"refused for {str(bad.id)[:18]}: the saga failed with nothing to undo" in page
    assert f"nothing to do: {str(idle.id)[:18]}" in page


def test_what_the_state_forbids_is_said_before(operator: Client) -> None:
    page = ask(operator, "retry", stories.completed())
    assert "The saga has completed; there is nothing to retry" in page
    assert "<textarea" not in page


@pytest.mark.parametrize(
    ("codename", "verb", "others"),
    [("retry_saga", "retry", ("compensate", "skip")), ("compensate_saga", "compensate", ("retry", "pause"))],
)
def test_each_verb_needs_its_permission(
    client: Client, codename: str, verb: str, others: tuple[str, ...], rung: list[SagaState]
) -> None:
    state = stories.parked()
    logged_in(client, "rita", "view_saga", codename)
    detail = client.get(reverse("admin:sagas_saga_change", args=[state.id])).content.decode()
    assert url(verb) in detail
    for other in others:
        assert url(other) not in detail
        sent = {"saga": str(state.id), "reason": "x", "request_id": str(uuid4())}
        assert client.get(url(other), {"saga": str(state.id)}).status_code == 403
        assert client.post(url(other), sent).status_code == 403
        client.post("/admin/sagas/saga/", {"action": other, "_selected_action": [str(state.id)]})
    assert engine.load(state.id).rev == state.rev


def test_a_viewer_sees_no_actions(client: Client) -> None:
    state = stories.parked()
    logged_in(client, "vera", "view_saga")
    assert 'name="action"' not in client.get("/admin/sagas/saga/").content.decode()
    assert "intervene" not in client.get(reverse("admin:sagas_saga_change", args=[state.id])).content.decode()


def test_a_permission_to_act_is_none_to_look(client: Client) -> None:
    state = stories.parked()
    logged_in(client, "rob", "retry_saga")
    assert client.get(url("retry"), {"saga": str(state.id)}).status_code == 403


def test_a_selection_in_the_list_leads_to_the_confirmation(operator: Client) -> None:
    states = [stories.completed(), stories.parked()]
    chosen = {"action": "compensate", "_selected_action": [str(s.id) for s in states]}
    page = html.unescape(operator.post("/admin/sagas/saga/", chosen).content.decode())
    assert "Compensate: 2 sagas" in page
    assert set(form_of(page)["saga"]) == {str(s.id) for s in states}
    sent = form_of(page) | {"reason": "recall"}
    operator.post(url("compensate"), sent)
    assert {engine.load(s.id).status for s in states} == {Status.COMPENSATING}


def test_too_many_at_once_are_refused(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirm, "AT_ONCE", 2)
    states = [stories.failed() for _ in range(3)]
    chosen = {"action": "retry", "_selected_action": [str(s.id) for s in states], "select_across": "1"}
    assert "at most 2 sagas" in operator.post("/admin/sagas/saga/", chosen, follow=True).content.decode()
    sent = {"saga": [str(s.id) for s in states], "reason": "x", "request_id": str(uuid4())}
    assert "at most 2 can be chosen" in operator.post(url("retry"), sent, follow=True).content.decode()
    assert {engine.load(s.id).status for s in states} == {Status.FAILED}


def test_nonsense_is_sent_back(operator: Client) -> None:
    assert operator.get(url("retry"), {"saga": "nonsense"}).status_code == 302
    assert operator.get(url("retry")).status_code == 302
    assert operator.get("/admin/sagas/saga/intervene/explode/").status_code == 404
    missing = operator.get(url("retry"), {"saga": str(uuid4())})
    assert "None of these sagas exists" in missing.content.decode()


def test_skip_takes_the_step_and_its_result(operator: Client) -> None:
    state = stories.parked()
    do(operator, "skip", state, step="reserve-stock", data='{"reservation_id": 12}')
    step = engine.load(state.id).steps[1]
    assert (step.status, step.result) == (StepStatus.SKIPPED, {"reservation_id": 12})


def test_mark_done_resolve_and_deadline(operator: Client) -> None:
    done = stories.parked()
    do(operator, "mark-done", done, step="reserve-stock", data='{"reservation_id": 12}', undo="on")
    assert engine.load(done.id).steps[1].status is StepStatus.COMPLETED
    ended = stories.undo_refused()
    do(operator, "resolve", ended, outcome="compensated")
    assert engine.load(ended.id).status is Status.COMPENSATED
    moved = stories.claimed()
    do(operator, "change-deadline", moved, deadline="2099-01-01T12:00")
    assert str(engine.load(moved.id).deadline_at) == "2099-01-01 12:00:00+00:00"


def test_pause_and_resume(operator: Client) -> None:
    state = stories.backing_off()
    assert "paused" in do(operator, "pause", state)
    assert engine.load(state.id).paused_at is not None
    do(operator, "resume", state)
    assert engine.load(state.id).paused_at is None


def test_wrong_fields_are_said_and_change_nothing(operator: Client) -> None:
    state = stories.parked()
    assert "Enter a valid JSON" in do(operator, "skip", state, step="reserve-stock", data="{")
    assert "no step" in do(operator, "skip", state, step="explode")
    assert "lies in the past" in do(operator, "change-deadline", state, deadline="2001-01-01T00:00")
    assert engine.load(state.id).rev == state.rev


def test_a_dead_broker_keeps_nobody_waiting(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    logged_in(client, "olga", "view_saga", "retry_saga")
    monkeypatch.setattr(confirm, "RINGING", timedelta(0))

    def refuse(*_: Any) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(dispatch, "chain_from", refuse)
    states = [stories.failed() for _ in range(4)]
    page = do(client, "retry", *states)
    assert "3 sagas go on with the next recovery scan" in page
    assert {engine.load(s.id).status for s in states} == {Status.IN_PROGRESS}
