"""Parents and children, and locks of sagas that go on after their end, on a real PostgreSQL (rule 18)."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import Any

import pytest

from sagas import dispatch, engine, recovery, worker
from sagas.definition import Child, SagaDefinition, SagaInput, SagaView, registry, step
from sagas.engine import Progress
from sagas.errors import LockHeld, NotAllowed
from sagas.interventions import Wish
from sagas.models import Saga, SagaLock
from sagas.state import (
    Accepted,
    Decision,
    Done,
    Impossible,
    LeaseExpired,
    Refused,
    SagaState,
    Status,
    Transient,
)
from tests.engine import LEASE, claimed, definition_of, deliver, drive, put_back, registered, together

pytestmark = pytest.mark.django_db(transaction=True)


class Order(SagaInput):
    """What the sagas below lock."""

    order_id: int = 1


class Part(SagaDefinition, register=False):
    """A child with a lock of its own."""

    type = "test_part"
    Input = Order
    lock = lambda i: f"part:{i.order_id}"  # noqa: E731  declared as an author would
    lock_conflict = "refuse"

    @step
    def make(self, saga: SagaView) -> dict[str, int]:
        return {"part": 1}

    @make.compensation
    def scrap(self, saga: SagaView) -> dict[str, int]:
        return {}


class Whole(SagaDefinition, register=False):
    """Its parent."""

    type = "test_whole"
    Input = Order

    @step
    def part(self, saga: SagaView) -> Child:
        return Child("test_part", {"order_id": saga.input.order_id})

    @step
    def paint(self, saga: SagaView) -> dict[str, int]:
        return {}


class Look(SagaDefinition, register=False):
    """A child that changes nothing."""

    type = "test_look"

    @step
    def look(self, saga: SagaView) -> dict[str, int]:
        return {"seen": 1}


class Looker(SagaDefinition, register=False):
    """Its parent."""

    type = "test_looker"

    @step
    def child(self, saga: SagaView) -> Child:
        return Child("test_look", {})


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The definitions above; nothing is rung for."""
    monkeypatch.setattr(dispatch, "ring", lambda state, due, now: None)
    with registered(Part, Whole, Look, Looker):
        yield


def start(saga_type: str = "test_part") -> SagaState:
    """A saga that has just begun."""
    return engine.start(saga_type, {}).state


def with_child(saga_type: str = "test_whole") -> tuple[SagaState, SagaState]:
    """A parent that waits for its child, and the child."""
    parent = drive(start(saga_type).id)
    return parent, engine.load(Saga.objects.get(parent=parent.id).id)


def undone(parent: SagaState) -> SagaState:
    """A parent that is being undone, with the undoing of its child claimed."""
    turned = engine.compensate(parent.id, actor="ann", reason="no more").state
    assert turned is not None
    return claimed(turned)


# --- Locks ----------------------------------------------------------------------------------------


def test_of_sagas_that_begin_together_one_is_accepted_where_that_is_declared() -> None:
    begun = together(*[start] * 4)
    accepted = [saga for saga in begun if isinstance(saga, SagaState)]
    assert len(accepted) == 1
    assert all(isinstance(one, LockHeld) for one in begun if one is not accepted[0])
    assert (Saga.objects.count(), SagaLock.objects.count()) == (1, 1)
    drive(accepted[0].id)
    assert not start().awaits_lock


def test_a_saga_that_was_created_to_wait_is_refused_when_it_is_to_begin() -> None:
    kept = engine.start("test_part", {}, execute=False).state
    holder = start()
    with pytest.raises(NotAllowed, match="'part:1' is locked by saga"):
        engine.execute(kept.id, actor="ann")
    assert engine.load(kept.id) == kept
    drive(holder.id)
    begun = engine.execute(kept.id, actor="ann").state
    assert begun is not None
    assert not begun.awaits_lock
    assert drive(kept.id).status is Status.COMPLETED


@pytest.mark.parametrize("verb", ["compensate", "retry", "retry-from"])
def test_a_wish_that_changes_nothing_leaves_no_lock_behind(verb: str) -> None:
    saga = drive(start().id)
    if verb != "retry":
        engine.compensate(saga.id, actor="ann", reason="undo")
        assert drive(saga.id).status is Status.COMPENSATED
    with nullcontext() if verb == "compensate" else pytest.raises(NotAllowed):
        engine.intervene(saga.id, verb, actor="ann", reason="again", wish=Wish(step="make"))
    assert not SagaLock.objects.exists()
    assert drive(start().id).status is Status.COMPLETED


def test_whoever_reopens_a_finished_saga_takes_its_lock_again() -> None:
    saga = drive(start().id)
    again = engine.intervene(saga.id, "retry-from", actor="ann", reason="redo", wish=Wish(step="make"))
    assert again.state is not None
    assert SagaLock.objects.get().saga_id == saga.id
    drive(saga.id)
    assert not SagaLock.objects.exists()


@pytest.mark.parametrize("verb", ["compensate", "retry-from"])
def test_a_finished_saga_is_not_reopened_under_a_foreign_lock(verb: str) -> None:
    saga, other = drive(start().id), start()
    with pytest.raises(NotAllowed, match=str(other.id)):
        engine.intervene(saga.id, verb, actor="ann", reason="undo", wish=Wish(step="make"))
    assert engine.load(saga.id) == saga
    assert SagaLock.objects.get().saga_id == other.id


# --- Children -------------------------------------------------------------------------------------


def test_a_child_whose_lock_is_refused_refuses_its_parents_step() -> None:
    other, parent = start(), claimed(start("test_whole"))
    outcome = worker.act(definition_of(parent), parent, 0)
    assert isinstance(outcome, Refused)
    assert (outcome.code, str(other.id) in outcome.reason) == ("lock_held", True)


def test_a_worker_that_is_late_cannot_start_a_child_that_was_undone_meanwhile() -> None:
    sleeping = engine.claim(start("test_whole").id, 0, 0, -LEASE)
    assert sleeping is not None
    turned = engine.compensate(sleeping.id, actor="ann", reason="no more").state
    assert turned is not None
    turned = engine.happened(turned, LeaseExpired(0))
    assert worker.act(definition_of(turned), claimed(turned), 0) == Done({})
    assert isinstance(worker.act(definition_of(sleeping), sleeping, 0), Refused)
    child = engine.load(Saga.objects.get(parent=sleeping.id).id)
    assert (child.status, child.steps[0].attempts) == (Status.FAILED, 0)


def test_a_child_that_cannot_be_undone_parks_its_parent() -> None:
    parent, child = with_child()
    child = drive(child.id)
    parent = undone(parent)
    assert worker.act(definition_of(parent), parent, 0) == Accepted("child")
    child = engine.load(child.id)
    engine.record(definition_of(child), claimed(child), 0, Refused("gone", "it is sold"))
    outcome = worker.act(definition_of(parent), parent, 0)
    assert isinstance(outcome, Impossible)
    assert outcome.code == "child_not_undone"
    after = engine.record(definition_of(parent), parent, 0, outcome).state
    assert after is not None
    assert after.status is Status.COMPENSATION_FAILED


def test_a_completed_child_with_nothing_to_undo_counts_as_undone_and_stays() -> None:
    parent, child = with_child("test_looker")
    child = drive(child.id)
    parent = undone(parent)
    assert worker.act(definition_of(parent), parent, 0) == Done({})
    assert engine.load(child.id) == child


def test_a_child_whose_lock_another_saga_has_is_undone_once_it_is_free() -> None:
    parent, child = with_child()
    drive(child.id)
    other = start()
    parent = undone(parent)
    outcome = worker.act(definition_of(parent), parent, 0)
    assert str(other.id) in getattr(outcome, "reason", "")
    drive(other.id)
    assert worker.act(definition_of(parent), parent, 0) == Accepted("child")
    assert SagaLock.objects.get().saga_id == child.id


@pytest.mark.parametrize("verb", ["compensate", "retry", "retry-from"])
def test_a_finished_child_is_run_again_or_undone_by_its_parent_alone(verb: str) -> None:
    _, child = with_child()
    child = drive(child.id)
    with pytest.raises(NotAllowed, match="is a child"):
        engine.intervene(child.id, verb, actor="ann", reason="why not", wish=Wish(step="make"))


def test_a_child_that_ends_while_somebody_asks_is_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    _, child = with_child()
    assert engine.undo_child(drive(child.id), "undo").due == (0,)
    apply = engine.apply

    def late(decision: Decision) -> bool:
        monkeypatch.setattr(engine, "apply", apply)
        drive(child.id)
        return apply(decision)

    monkeypatch.setattr(engine, "apply", late)
    with pytest.raises(NotAllowed, match="ask for retry of its parent"):
        engine.intervene(child.id, "retry", actor="ann", reason="hurry")
    assert engine.load(child.id).status is Status.COMPENSATED


def test_a_refused_lock_settles_no_child_that_an_earlier_attempt_may_yet_start() -> None:
    asleep = claimed(start("test_whole"))
    holder = start()
    put_back(asleep.id, "lease_until")
    recovery.resume(asleep.id)
    second = claimed(engine.load(asleep.id))
    outcome = worker.act(definition_of(second), second, 0)
    assert isinstance(outcome, Transient)
    engine.record(definition_of(second), second, 0, outcome)
    engine.compensate(asleep.id, actor="ann", reason="no more")
    drive(holder.id)
    assert drive(asleep.id).status is Status.COMPENSATED
    assert isinstance(worker.act(definition_of(asleep), asleep, 0), Refused), "it finds the child undone"
    assert Saga.objects.get(parent=asleep.id).status == "failed"


def test_a_child_begins_once_its_parent_waits_and_one_that_has_ended_meanwhile_is_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rung: list[tuple[str, Status]] = []

    def ring(state: SagaState, due: Sequence[int], now: datetime) -> None:
        if state.parent_id is not None:
            rung.append((state.type, engine.load(state.parent_id).status))

    monkeypatch.setattr(dispatch, "ring", ring)
    deliver(start("test_whole"), 0)
    assert rung == [("test_part", Status.WAITING)]
    record = engine.record

    def slow(*what: Any, **more: Any) -> Progress:
        monkeypatch.setattr(engine, "record", record)
        drive(Saga.objects.get(parent=what[1].id).id)
        return record(*what, **more)

    monkeypatch.setattr(engine, "record", slow)
    parent = start("test_looker")
    deliver(parent, 0)
    assert engine.load(parent.id).status is Status.COMPLETED


class Altered(SagaDefinition, register=False):
    """What became of the child, under the same version: another step, which is not undone."""

    type = "test_part"
    Input = Order

    @step
    def print(self, saga: SagaView) -> dict[str, int]:
        return {}


def test_a_child_whose_definition_has_changed_is_not_taken_for_undone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parent, child = with_child()
    drive(child.id)
    recovery.resume(parent.id)
    flying = undone(drive(parent.id))
    with monkeypatch.context() as patch:
        patch.setitem(registry.by_key, ("test_part", 1), Altered())
        outcome = worker.act(definition_of(flying), flying, 0)
        assert isinstance(outcome, Impossible)
        engine.record(definition_of(flying), flying, 0, outcome)
    assert engine.load(child.id).status is Status.COMPLETED
    assert engine.load(parent.id).status is Status.COMPENSATION_FAILED
    engine.intervene(parent.id, "resume", actor="ann", reason="mended")
    deliver(engine.load(parent.id), 0)
    assert drive(child.id).status is Status.COMPENSATED
    assert drive(parent.id).status is Status.COMPENSATED


def test_a_claim_that_came_with_the_record_is_worked_on_whatever_the_child_has_done() -> None:
    parent, child = with_child()
    drive(child.id)
    with_claim = Progress(parent, (), claimed=1)
    assert worker._ring_child(parent, 0, with_claim) is with_claim
