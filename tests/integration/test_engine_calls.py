"""What travels with a call: whose it is, under which name it is traced, and how old its key may be."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from celery.app.task import Task
from pytest_django import Settings
from structlog.testing import capture_logs

from sagas import engine, tasks
from sagas.remote import KEY_MARGIN
from sagas.state import SagaState, Status
from tests.definitions import Chain
from tests.engine import drive, kinds, registered
from tests.scripted import FORBIDDEN, Scripted, refuses

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("bells")]
CALLS = ["first", "second", "third", "undo-second", "undo-first"]


@pytest.fixture(autouse=True)
def definitions() -> Iterator[None]:
    """Code for the saga of these tests."""
    with registered(Chain):
        yield


def start(**options: Any) -> SagaState:
    return engine.start(Chain.type, {}, **options).state


# --- Headers ------------------------------------------------------------------------------------------


def test_every_call_of_a_saga_tells_whose_it_is_and_under_which_name_it_is_traced(scripted: Scripted) -> None:
    scripted.will("third", refuses("too_dear"))
    saga = drive(start(correlation_id="order-7").id)
    assert scripted.operations() == CALLS
    spans = set()
    for request in scripted.received:
        assert request.headers["X-Correlation-Id"] == "order-7"
        assert (request.headers["X-Saga-Id"], request.headers["X-Saga-Step"]) == (
            str(saga.id),
            request.operation,
        )
        # W3C Trace Context, 3.2: version, trace, span and flags; one trace a saga, one span a call.
        traced = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01", request.headers["traceparent"])
        assert traced is not None
        assert traced[1] == saga.id.hex
        spans.add(traced[2])
    assert len(spans) == len(CALLS)


def test_sagas_are_traced_apart(scripted: Scripted) -> None:
    for number in range(2):
        drive(start(correlation_id=f"order-{number}").id)
    halves = scripted.received[:4], scripted.received[4:]
    for number, half in enumerate(halves):
        assert {request.headers["X-Correlation-Id"] for request in half} == {f"order-{number}"}
        assert len({request.headers["traceparent"].split("-")[1] for request in half}) == 1
    assert (
        halves[0][0].headers["traceparent"].split("-")[1] != halves[1][0].headers["traceparent"].split("-")[1]
    )


# --- Keys ---------------------------------------------------------------------------------------------


def forget_keys(settings: Settings) -> None:
    """From now on the shop keeps keys for no longer than the margin: every one of them is too old."""
    shop = settings.SAGAS["PARTICIPANTS"]["shop"] | {"key_retention": KEY_MARGIN}
    settings.SAGAS = settings.SAGAS | {"PARTICIPANTS": {"shop": shop}}


def test_rule_23_a_call_whose_key_may_be_forgotten_parks_the_saga_and_is_not_sent(
    scripted: Scripted, settings: Settings
) -> None:
    saga = start()
    forget_keys(settings)
    after = drive(saga.id)
    assert (after.status, (after.error or {})["code"]) == (Status.PARKED, "key_expired")
    assert scripted.received == []


def test_rule_23_a_compensation_is_not_sent_when_what_it_undoes_may_be_forgotten(
    scripted: Scripted, settings: Settings
) -> None:
    scripted.will("second", FORBIDDEN)
    saga = drive(start().id)
    assert saga.status is Status.PARKED
    forget_keys(settings)
    engine.compensate(saga.id, actor="ann", reason="too late")
    after = drive(saga.id)
    assert after.status is Status.COMPENSATION_FAILED
    assert (after.steps[0].undo_error or after.steps[1].undo_error or {})["code"] == "key_expired"
    assert scripted.operations() == ["first", "second"]


# --- Messages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [tasks.step, tasks.compensate], ids=lambda task: task.name)
def test_rule_2_a_message_of_a_version_without_code_here_is_put_back(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch, task: Any
) -> None:
    saga = start()
    told, version = kinds(saga.id), saga.version + 1
    message = (str(saga.id), 0, saga.epoch, saga.type, version)
    sent: list[tuple[Any, ...]] = []
    monkeypatch.setattr(Task, "apply_async", lambda self, args, **how: sent.append((self.name, args, how)))
    monkeypatch.setattr(tasks, "log", structlog.get_logger())  # one that was used cannot be listened to
    task.push_request(chain=["what is chained behind it"])
    try:
        with capture_logs() as logs:
            task.run(*message)
        assert not task.request.chain, "nothing may go on before this message has been worked on"
    finally:
        task.pop_request()
    assert sent == [(task.name, message, {"countdown": tasks.PUT_BACK_AFTER})]
    assert [(line["version"], line["log_level"]) for line in logs] == [(version, "warning")]
    assert (kinds(saga.id), scripted.received) == (told, [])
    assert engine.load(saga.id) == saga
