"""The front end's page, login and switch for faults, without a browser."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.contrib.staticfiles import finders
from django.test import Client
from pytest_django import Settings

from front import misbehaviour
from participants.inventory.models import Fault
from sagas.calls import Call
from sagas.choreography.calling import ParticipantCaller
from sagas.retail.choreography.checkout import checkout
from sagas.retail.choreography.order_payment import ordering
from sagas.state import FINISHED
from tests import stories
from tests.api import caller
from tests.choreography import settle
from tests.engine import drive

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.filterwarnings("ignore:No directory at:UserWarning"),
]
FAULTS = "/front/faults"


def browser(role: str) -> Client:
    """A logged-in browser of a user of that role, which must send CSRF tokens."""
    caller(role)
    user, _ = get_user_model().objects.get_or_create(username=role)
    assert user.groups.filter(pk__in=Group.objects.filter(name=role)).exists()
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def misbehaving(shop: None, settings: Settings) -> None:
    settings.PARTICIPANTS = settings.PARTICIPANTS | {"FAULTS": True}


def ask(client: Client, saga_id: UUID, *faults: dict[str, Any]) -> Any:
    return client.post(FAULTS, {"saga_id": str(saga_id), "faults": faults}, "application/json")


def told(client: Client) -> dict[str, Any]:
    page = client.get("/").content.decode()
    start = page.index('<script id="told" type="application/json">')
    text = page[start:].partition(">")[2].partition("</script>")[0]
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def test_who_is_not_logged_in_is_sent_to_the_login_and_back() -> None:
    client = Client()
    assert client.get("/").headers["Location"] == "/login/?next=/"
    get_user_model().objects.create_user("olga", password="pw-of-olga")
    wrong = client.post("/login/?next=/", {"username": "olga", "password": "no"})
    assert 'role="alert"' in wrong.content.decode()
    done = client.post("/login/?next=/", {"username": "olga", "password": "pw-of-olga", "next": "/"})
    assert done.headers["Location"] == "/"
    elsewhere = client.get("/login/?next=https://evil.example/")
    assert elsewhere.headers["Location"] == "/"


def test_the_page_runs_its_own_scripts_and_no_other() -> None:
    answer = browser("operator").get("/")
    assert "script-src 'self'" in answer["Content-Security-Policy"]
    assert b"<script>" not in answer.content
    assert b"style=" not in answer.content
    for name in ("app.js", "api.js", "faults.js", "form.js", "watch.js", "front.css", "icon.svg"):
        assert finders.find(f"front/{name}")
    assert Client().get("/favicon.ico").headers["Location"].endswith("front/icon.svg")


def test_the_page_offers_what_the_user_may_do() -> None:
    assert told(browser("client"))["start"] is True
    assert told(browser("client"))["compensate"] is False
    assert (told(browser("viewer"))["start"], told(browser("viewer"))["admin"]) == (False, "")
    user = get_user_model().objects.get(username="viewer")
    user.is_staff = True
    user.save()
    assert "/admin/sagas/saga/" in told(browser("viewer"))["admin"]


def test_without_faults_there_is_no_switch(settings: Settings) -> None:
    settings.PARTICIPANTS = settings.PARTICIPANTS | {"FAULTS": False}
    client = browser("operator")
    assert told(client)["faults"] == ""
    assert client.get(FAULTS).status_code == 404
    assert ask(client, uuid4(), {"step": "x", "kind": "refuse"}).status_code == 404


@pytest.mark.usefixtures("misbehaving")
def test_a_fault_hits_the_saga_it_was_chosen_for_and_no_other() -> None:
    client = browser("operator")
    hit, spared = stories.sale(), stories.sale()
    answer = ask(client, hit.id, {"step": "confirm-stock", "kind": "refuse"})
    assert answer.status_code == 201, answer.content
    (listed,) = client.get(FAULTS).json()["results"]
    assert listed["match"] == {"saga_id": str(hit.id), "saga_step": "confirm-stock"}
    assert drive(spared.id).status == "completed"
    state = drive(hit.id)
    assert (state.status, (state.error or {})["code"]) == ("compensated", "chosen_fault")
    assert client.delete(FAULTS).json()["removed"] >= 1
    assert client.get(FAULTS).json() == {"results": []}
    assert not Fault._default_manager.exists()


@pytest.mark.usefixtures("misbehaving")
def test_a_fault_while_undoing() -> None:
    state = stories.sale()
    refusal = {"step": "confirm-stock", "kind": "refuse", "times": None}
    lost = {"step": "release-stock", "kind": "reset_after", "times": 2}
    assert ask(browser("operator"), state.id, refusal, lost).status_code == 201
    ended = drive(state.id)
    assert ended.status in FINISHED
    assert ended.steps[1].undo_attempts == 3


@pytest.mark.usefixtures("misbehaving", "brisk")
@pytest.mark.parametrize(("saga_type", "given"), [("checkout_saga", {}), ("order_saga", {"amount": "59.98"})])
def test_a_fault_hits_the_choreography_it_was_chosen_for_and_no_other(
    saga_type: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    called: set[str] = set()
    plain = ParticipantCaller.__call__

    def call(self: ParticipantCaller, call: Call, *, undoes: str = "") -> Any:
        called.add(call.path.removeprefix("/saga/"))
        return plain(self, call, undoes=undoes)

    monkeypatch.setattr(ParticipantCaller, "__call__", call)
    offered = misbehaviour.CHOREOGRAPHED[saga_type]
    client, path = browser("operator"), f"/api/commandes/clients/123/{offered['kind']}/choreo/"
    fault = {"step": "create-order", "kind": "error_after", "times": None}
    asked = {"begins": {"path": path, "key": "hit"}, "faults": [fault]}
    assert client.post(FAULTS, asked, "application/json").status_code == 201
    body = {"store_id": 1, "items": [{"product_id": 456, "quantity": 2}], **given}
    ids = {}
    for key in ("spared", "hit"):
        answer = client.post(path, body, "application/json", headers={"Idempotency-Key": key})
        assert answer.status_code == 202, answer.content
        ids[key] = next(iter(answer.json().values()))
        settle(ordering if offered["kind"] == "order" else checkout)
    ended = {key: client.get(f"/api/event-store/replay/{offered['kind']}/{one}") for key, one in ids.items()}
    statuses = {key: answer.json()["state"]["status"] for key, answer in ended.items()}
    assert statuses["spared"] in ("succeeded", "created")
    assert statuses["hit"] in ("failed", "cancelled")
    assert called == {*offered["doing"], *offered["undoing"]}
    (listed,) = client.get(FAULTS).json()["results"]
    assert (listed["operation"], listed["match"]) == ("create-order", {"saga_id": ids["hit"]})


@pytest.mark.usefixtures("misbehaving")
def test_a_fault_of_an_operation_that_nobody_has() -> None:
    asked = {"begins": {"path": "/x", "key": "1"}, "faults": [{"step": "fly", "kind": "refuse"}]}
    answer = browser("operator").post(FAULTS, asked, "application/json")
    assert (answer.status_code, answer.json()["detail"]) == (502, "no participant has an operation fly")
    both = asked | {"saga_id": str(uuid4())}
    assert browser("operator").post(FAULTS, both, "application/json").status_code == 400


@pytest.mark.usefixtures("misbehaving")
def test_what_is_wrong_is_said() -> None:
    state = stories.sale()
    client = browser("client")
    fault = {"step": "confirm-stock", "kind": "refuse"}
    assert ask(client, state.id, fault).status_code == 404  # not theirs
    operator = browser("operator")
    for wrong in ({"step": "x", "kind": "explode"}, {"step": "x"}, fault | {"times": 0}, fault | {"more": 1}):
        assert ask(operator, state.id, wrong).status_code == 400
    assert ask(operator, state.id).status_code == 400
    assert ask(browser("viewer"), state.id, fault).status_code == 403
    assert Client().get(FAULTS).status_code == 403
    guarded = Client(enforce_csrf_checks=True)
    guarded.force_login(get_user_model().objects.get(username="operator"))
    assert guarded.delete(FAULTS).status_code == 403


@pytest.mark.usefixtures("misbehaving")
def test_a_participant_that_is_away_is_named(settings: Settings) -> None:
    settings.SAGAS = settings.SAGAS | {"PARTICIPANTS": {"inventory": {"url": "http://127.0.0.1:9"}}}
    answer = browser("operator").get(FAULTS)
    assert (answer.status_code, answer.json()["detail"][:23]) == (502, "inventory did not answe")
