"""Slow participants over HTTP: what they took up with 202 ends by their callback, or by asking them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import urllib3
from django.db import connection
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from sagas import engine, recovery
from sagas.definition import Call, Participant, SagaDefinition, SagaView, step
from sagas.state import SagaState, Status, StepStatus
from tests.engine import drive, kinds, registered
from tests.scripted import Says, Scripted, refuses

pytestmark = pytest.mark.usefixtures("bells")
LATER = Says(202)
shop = Participant("shop")
Bells = list[tuple[UUID, tuple[int, ...]]]


class Slow(SagaDefinition, register=False):
    """Orders, has it made, which takes its time, and delivers it."""

    type = "test_slow"

    @step
    def order(self, saga: SagaView) -> Call:
        return shop.post("order")

    @order.compensation
    def cancel(self, saga: SagaView) -> Call:
        return shop.post("cancel")

    @step(wait_limit=timedelta(hours=1))
    def produce(self, saga: SagaView) -> Call:
        return shop.post("produce")

    @produce.compensation
    def scrap(self, saga: SagaView) -> Call:
        return shop.post("scrap")

    @step
    def deliver(self, saga: SagaView) -> Call:
        return shop.post("deliver", piece=saga.results.produce["piece"])

    def result(self, saga: SagaView) -> dict[str, Any]:
        return {"piece": saga.results.produce["piece"]}


@pytest.fixture
def api(live_server: LiveServer, settings: Settings, scripted: Scripted) -> str:
    """The URL of the API, where slow participants are told to call back."""
    settings.SAGAS = settings.SAGAS | {"CALLBACK_URL": live_server.url}
    return str(live_server.url)


def waiting(scripted: Scripted) -> SagaState:
    """A saga whose second step was taken up by the participant and is not done."""
    scripted.will("produce", LATER)
    state = drive(engine.start("test_slow", {}).state.id)
    assert (state.status, state.steps[1].status) == (Status.WAITING, StepStatus.WAITING)
    return state


def told(scripted: Scripted, operation: str) -> str:
    """Where the participant was told to call back about its latest request of that operation."""
    return [r.headers["X-Callback-Url"] for r in scripted.received if r.operation == operation][-1]


def call_back(url: str, **word: Any) -> int:
    """Post a result as the participant does, with no credential but the URL; answers the status."""
    with urllib3.PoolManager(retries=False, timeout=20) as http:
        return http.request("POST", url, json=word, headers={"Connection": "close"}).status


def test_a_success_lets_the_saga_go_on_and_its_repeat_changes_nothing(
    api: str, scripted: Scripted, bells: Bells
) -> None:
    with registered(Slow):
        state = waiting(scripted)
        url = told(scripted, "produce")
        assert url.startswith(f"{api}/api/v1/callbacks/")
        assert call_back(url, status="success", data={"piece": 7}) == 200
        assert bells[-1] == (state.id, (2,))
        known = engine.load(state.id)
        assert call_back(url, status="success", data={"piece": 8}) == 409
        assert call_back(url, status="failed", code="sold_out") == 409
        assert engine.load(state.id) == known
        ended = drive(state.id)
        assert (ended.status, ended.result) == (Status.COMPLETED, {"piece": 7})
        assert call_back(url, status="success", data={"piece": 8}) == 409
        assert engine.load(state.id) == ended
    assert scripted.operations() == ["order", "produce", "deliver"]
    assert kinds(state.id).count("step_completed") == 3


def test_a_refusal_undoes_what_was_done(api: str, scripted: Scripted) -> None:
    with registered(Slow):
        state = waiting(scripted)
        url = told(scripted, "produce")
        assert call_back(url, status="failed", code="no_steel", reason="none in stock") == 200
        assert call_back(url, status="failed", code="no_steel", reason="none in stock") == 409
        ended = drive(state.id)
    assert ended.status is Status.COMPENSATED
    assert ended.error == {"step": "produce", "code": "no_steel", "reason": "none in stock"}
    assert scripted.operations() == ["order", "produce", "cancel"]


def test_a_token_answers_for_its_own_step_and_generation_alone(api: str, scripted: Scripted) -> None:
    with registered(Slow):
        state = waiting(scripted)
        before, other = told(scripted, "produce"), told(scripted, "order")
        assert call_back(other, status="success", data={"piece": 7}) == 409
        assert call_back(f"{before[:-1]}{'a' if before[-1] != 'a' else 'b'}", status="success") == 404
        assert engine.load(state.id) == state
        assert call_back(before, status="failed", code="no_steel") == 200
        drive(state.id)
        scripted.will("produce", LATER)
        engine.retry(state.id, actor="ann", reason="steel has come")
        again = drive(state.id)
        assert again.steps[1].generation == 1
        assert call_back(before, status="success", data={"piece": 7}) == 409
        assert engine.load(state.id) == again
        assert call_back(told(scripted, "produce"), status="success", data={"piece": 8}) == 200
        assert drive(state.id).result == {"piece": 8}


def test_what_nobody_calls_back_about_is_asked_for(api: str, scripted: Scripted, bells: Bells) -> None:
    with registered(Slow):
        state = waiting(scripted)
        (key,) = scripted.keys("produce")
        scripted.knows_nothing = True
        poll(state.id)
        asked = engine.load(state.id)
        assert (asked.status, (asked.steps[1].wait or {})["polls"]) == (Status.WAITING, 1)
        scripted.knows_nothing = False
        scripted.kept[key] = Says(data={"piece": 9})
        poll(state.id)
        assert bells[-1] == (state.id, (2,))
        ended = drive(state.id)
        assert (ended.status, ended.result) == (Status.COMPLETED, {"piece": 9})
        assert call_back(told(scripted, "produce"), status="success", data={"piece": 1}) == 409
    assert scripted.keys("produce") == [key]


def test_a_refusal_that_nobody_calls_back_about_undoes_the_saga(api: str, scripted: Scripted) -> None:
    with registered(Slow):
        state = waiting(scripted)
        (key,) = scripted.keys("produce")
        scripted.kept[key] = refuses("no_steel")
        poll(state.id)
        ended = drive(state.id)
    assert (ended.status, (ended.error or {})["code"]) == (Status.COMPENSATED, "no_steel")
    assert scripted.operations() == ["order", "produce", "cancel"]


def poll(saga_id: UUID) -> None:
    """Let it be time to ask the participant, and the recovery scan come."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE sagas_sagastep SET wait = jsonb_set(wait, '{poll_at}', to_jsonb(clock_timestamp()))"
            " WHERE saga_id = %s AND wait ? 'poll_at' AND status = 'waiting'",
            [saga_id],
        )
        cursor.execute("UPDATE sagas_saga SET resume_at = clock_timestamp() WHERE id = %s", [saga_id])
    recovery.recover()
