"""Rule 8: an answer that cannot be stored parks its saga, whoever learns it; a scan is not held up by one."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from sagas import engine, recovery, remote, worker
from sagas.state import Done, SagaState, Status
from tests.definitions import Chain, InlineChain
from tests.engine import claimed, deliver, drive, kinds, put_back, registered
from tests.scripted import Says, Scripted

pytestmark = pytest.mark.django_db(transaction=True)

Bells = list[tuple[UUID, tuple[int, ...]]]
INFINITE = {"x": float("inf"), "beyond_64_bits": 2**70}


@pytest.fixture(autouse=True)
def definitions() -> Iterator[None]:
    """Code for the sagas of these tests."""
    with registered(Chain, InlineChain):
        yield


def start(saga_type: str = "chain") -> SagaState:
    """A saga that has just begun."""
    return engine.start(saga_type, {}).state


def nested(depth: int) -> Any:
    """A list in a list, and so on."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


UNSTORABLE = pytest.mark.parametrize("answer", [INFINITE, nested(20_000)], ids=["infinite", "deep"])


def left_to_a_person(saga_id: UUID) -> bool:
    """Whether the saga is parked for its answer, and no worker holds a step of it."""
    after = engine.load(saga_id)
    assert (after.status, (after.error or {})["code"]) == (Status.PARKED, "unstorable_answer")
    return kinds(saga_id)[-1] == "saga_parked" and not any(step.in_flight for step in after.steps)


@UNSTORABLE
@pytest.mark.parametrize("saga_type", ["chain", "inline_chain"])
def test_rule_8_an_answer_that_a_worker_cannot_store_parks_the_saga(
    saga_type: str, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = start(saga_type)
    monkeypatch.setattr(worker, "act", lambda *_: Done(answer))
    deliver(state, 0)
    assert left_to_a_person(state.id)


@UNSTORABLE
def test_rule_8_an_answer_that_recovery_cannot_store_parks_the_saga(
    answer: Any, scripted: Scripted, bells: Bells, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = claimed(start())
    put_back(state.id, "lease_until")
    put_back(state.id, "wake_at")
    monkeypatch.setattr(remote, "ask", lambda *_: Done(answer))
    assert recovery.recover() == 1
    assert left_to_a_person(state.id)
    assert engine.load(state.id).steps[0].crashes == 1
    assert bells == []


@pytest.mark.parametrize(
    "data", [b'{"x": 1e400, "y": 123456789012345678901234567890}', b"[" * 940 + b"]" * 940]
)
def test_rule_9_an_answer_that_could_not_be_stored_is_unknown_and_undone(
    data: bytes, scripted: Scripted
) -> None:
    state = start()
    scripted.will("first", Says(raw=b'{"status": "success", "data": ' + data + b"}"))
    assert drive(state.id).status is Status.COMPENSATED
    assert "undo-first" in scripted.operations()
