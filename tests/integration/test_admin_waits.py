"""Sagas that wait for the outside, and families of sagas, in the admin: approve, reject, signal, links."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from sagas import dispatch, engine, worker
from sagas.definition import (
    Child,
    SagaDefinition,
    SagaInput,
    SagaView,
    Wait,
    approval,
    registry,
    signal,
    step,
)
from sagas.models import Saga
from sagas.state import SagaState, Status

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore:No directory at:UserWarning"),  # static files were not collected
]


class Agreed(SagaDefinition, register=False):
    """An effect, a manager's approval, a supplier's signal."""

    type = "test_agreed"
    Input = SagaInput

    @step
    def prepare(self, saga: SagaView) -> dict[str, int]:
        return {"prepared": 1}

    @prepare.compensation
    def tidy_up(self, saga: SagaView) -> dict[str, int]:
        return {}

    @step
    def manager_agrees(self, saga: SagaView) -> Wait:
        return approval("manager")

    @step
    def goods_arrive(self, saga: SagaView) -> Wait:
        return signal("goods")

    def result(self, saga: SagaView) -> dict[str, Any]:
        return dict(saga.results.goods_arrive)


class Family(SagaDefinition, register=False):
    """A parent of the above."""

    type = "test_family"
    Input = SagaInput

    @step
    def member(self, saga: SagaView) -> Child:
        return Child("test_agreed", {})


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The definitions above; what is rung for is done at once."""
    known = {(c.type, c.version): c() for c in (Agreed, Family)}
    monkeypatch.setattr(registry, "by_key", {**registry.by_key, **known})
    monkeypatch.setattr(dispatch, "ring", run)


def run(state: SagaState, due: Any, now: object = None) -> None:
    """Work off what is due until nothing is."""
    left = [(state, position) for position in due]
    while left:
        state, position = left.pop(0)
        definition = registry.get(state.type, state.version)
        progress = worker.advance(definition, state.id, position, state.epoch)
        if progress.state is not None:
            left += [(progress.state, p) for p in progress.due]


def waiting(saga_type: str = "test_agreed") -> SagaState:
    """A saga that waits for its manager."""
    started = engine.start(saga_type, {}).state
    run(started, engine.due_positions(started))
    state = engine.load(started.id)
    assert state.status is Status.WAITING
    return state


def page(client: Client, state: SagaState) -> str:
    url = reverse("admin:sagas_saga_change", args=[state.id])
    return html.unescape(client.get(url).content.decode())


def do(client: Client, verb: str, state: SagaState, **fields: str) -> str:
    """Confirm a verb on the page that asks for it."""
    url = reverse("admin:sagas_saga_intervene", args=[verb])
    asked = client.get(url, {"saga": str(state.id)}).content.decode()
    request_id = re.search(r'name="request_id" value="([^"]+)"', asked)
    assert request_id is not None, asked
    sent = {"saga": str(state.id), "request_id": request_id[1], "reason": "as agreed", **fields}
    for _ in range(2):  # a form sent twice acts once
        answer = client.post(url, sent, follow=True)
    return html.unescape(answer.content.decode())


def test_a_wait_is_shown_with_what_ends_it(admin_client: Client) -> None:
    text = page(admin_client, waiting())
    assert "waits for approval “manager”" in text
    assert "Approve…" in text
    assert "Reject…" in text


def test_approving_lets_it_go_on(admin_client: Client) -> None:
    state = waiting()
    assert "is waiting" in do(admin_client, "approve", state, step="manager-agrees")
    steps = engine.load(state.id).steps
    assert steps[1].result == {"approved": True, "reason": "as agreed", "by": "admin"}
    assert "waits for signal “goods”" in page(admin_client, state)


def test_rejecting_undoes_it_and_keeps_the_reason(admin_client: Client) -> None:
    state = waiting()
    do(admin_client, "reject", state, step="manager-agrees")
    after = engine.load(state.id)
    assert after.status is Status.COMPENSATED
    assert after.error is not None
    assert after.error["reason"] == "as agreed"


def test_a_signal_carries_data(admin_client: Client) -> None:
    state = waiting()
    do(admin_client, "approve", state, step="manager-agrees")
    do(admin_client, "signal", state, step="goods-arrive", data='{"boxes": 3}')
    after = engine.load(state.id)
    assert (after.status, after.result) == (Status.COMPLETED, {"boxes": 3})


def test_what_nobody_waits_for_is_not_offered(admin_client: Client) -> None:
    state = waiting()
    url = reverse("admin:sagas_saga_intervene", args=["signal"])
    assert "does not wait for a signal" in admin_client.get(url, {"saga": str(state.id)}).content.decode()


def test_parent_and_child_link_to_each_other(admin_client: Client) -> None:
    parent = waiting("test_family")
    child = engine.load(Saga.objects.get(parent=parent.id).id)
    assert str(child.id) in page(admin_client, parent)
    assert str(parent.id) in page(admin_client, child)


def test_a_child_is_compensated_through_its_parent(admin_client: Client) -> None:
    parent = waiting("test_family")
    child = engine.load(Saga.objects.get(parent=parent.id).id)
    url = reverse("admin:sagas_saga_intervene", args=["compensate"])
    asked = html.unescape(admin_client.get(url, {"saga": str(child.id)}).content.decode())
    assert f"ask for compensate of its parent {parent.id}" in asked
    assert "<textarea" not in asked
