"""Waiting steps, children, locks, inline mode and interventions on a real PostgreSQL; local steps only."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import OperationalError, connection

from sagas import dispatch, engine, recovery, worker
from sagas.definition import (
    Child,
    SagaDefinition,
    SagaInput,
    SagaView,
    Wait,
    approval,
    parallel,
    registry,
    signal,
    sleep,
    step,
)
from sagas.engine import Progress
from sagas.errors import LockHeld, NotAllowed
from sagas.interventions import Wish
from sagas.models import Saga, SagaEvent, SagaLock
from sagas.state import SagaState, Status, StepStatus

pytestmark = pytest.mark.django_db(transaction=True)


class OrderInput(SagaInput):
    order_id: int = 1
    fail: bool = False


class Waiting(SagaDefinition, register=False):
    """Local step, signal, timer, approval, local step."""

    type = "test_waiting"
    Input = OrderInput

    @step
    def prepare(self, saga: SagaView) -> dict[str, int]:
        return {"prepared": saga.input.order_id}

    @step
    def payment_arrives(self, saga: SagaView) -> Wait:
        return signal("paid", timeout=timedelta(days=3))

    @step
    def cool_down(self, saga: SagaView) -> Wait:
        return sleep(timedelta(days=2))

    @step
    def boss_agrees(self, saga: SagaView) -> Wait:
        return approval("boss")

    @step
    def finish(self, saga: SagaView) -> dict[str, Any]:
        return {"sum": saga.results.payment_arrives["amount"]}

    def result(self, saga: SagaView) -> dict[str, Any]:
        return dict(saga.results.finish)


class Part(SagaDefinition, register=False):
    """A child that can be undone."""

    type = "test_part"
    Input = OrderInput

    @step
    def make(self, saga: SagaView) -> dict[str, int]:
        if saga.input.fail:
            raise RuntimeError("made to fail")
        return {"part": saga.input.order_id}

    @make.compensation
    def scrap(self, saga: SagaView) -> dict[str, int]:
        return {}


class Whole(SagaDefinition, register=False):
    """A parent whose first step is a child."""

    type = "test_whole"
    Input = OrderInput

    @step
    def part(self, saga: SagaView) -> Child:
        return Child("test_part", {"order_id": saga.input.order_id})

    @step
    def go(self, saga: SagaView) -> Wait:
        return signal("go")

    def result(self, saga: SagaView) -> dict[str, Any]:
        return {"part": saga.results.part["saga_id"]}


class Locked(SagaDefinition, register=False):
    """Excludes other sagas on the same order."""

    type = "test_locked"
    Input = OrderInput
    lock = lambda i: f"order:{i.order_id}"  # noqa: E731  declared as an author would

    @step
    def hold(self, saga: SagaView) -> Wait:
        return signal("done")

    @step
    def work(self, saga: SagaView) -> dict[str, int]:
        return {}

    @work.compensation
    def undo_work(self, saga: SagaView) -> dict[str, int]:
        return {}


class Refusing(Locked, register=False):
    """The same, but does not wait for the lock."""

    type = "test_refusing"
    lock_conflict = "refuse"


class Wide(SagaDefinition, register=False):
    """Three parallel members, then a join."""

    type = "test_wide"
    Input = OrderInput
    checks = parallel("checks")

    @checks.step()
    def one(self, saga: SagaView) -> dict[str, int]:
        return {"n": 1}

    @checks.step()
    def two(self, saga: SagaView) -> dict[str, int]:
        return {"n": 2}

    @checks.step(when=lambda saga: not saga.input.fail)
    def three(self, saga: SagaView) -> dict[str, int]:
        return {"n": 3}

    @step
    def summary(self, saga: SagaView) -> dict[str, int]:
        r = saga.results
        return {"sum": r.one["n"] + r.two["n"] + r.three.get("n", 0)}

    def result(self, saga: SagaView) -> dict[str, Any]:
        return dict(saga.results.summary)


class WideInline(Wide, register=False):
    """The same, the worker going on by itself."""

    type = "test_wide_inline"
    execution = "inline"


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[SagaState, tuple[int, ...]]]:
    """The definitions above, registered; messages are kept in a list instead of being sent."""
    classes = (Waiting, Part, Whole, Locked, Refusing, Wide, WideInline)
    known = {**registry.by_key, **{(c.type, c.version): c() for c in classes}}
    monkeypatch.setattr(registry, "by_key", known)
    sent: list[tuple[SagaState, tuple[int, ...]]] = []
    monkeypatch.setattr(dispatch, "ring", lambda state, due, now: sent.append((state, tuple(due))))
    return sent


def begin(saga_type: str, **data: Any) -> SagaState:
    started = engine.start(saga_type, data)
    return run(Progress(started.state, engine.due_positions(started.state)))


def run(progress: Progress) -> SagaState:
    """Work off what is due, message by message, until nothing is."""
    state, due = progress.state, list(progress.due)
    assert state is not None
    while due:
        definition = registry.get(state.type, state.version)
        done = worker.advance(definition, state.id, due.pop(0), state.epoch)
        if done.state is not None:
            state = done.state
            due = [*due, *(p for p in done.due if p not in due)]
    return engine.load(state.id)


def send(state: SagaState, name: str, data: Any, signal_id: str | None = None) -> SagaState:
    return run(engine.signal(state.id, name, data, signal_id=signal_id or str(uuid4())))


def make_due(saga_id: UUID, position: int, key: str) -> None:
    """Move a wait's time into the past, as days of waiting would."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE sagas_sagastep SET wait = jsonb_set(wait, %s, '\"2020-01-01T00:00:00+00:00\"')"
            " WHERE saga_id = %s AND position = %s",
            [[key], saga_id, position],
        )
        cursor.execute("UPDATE sagas_saga SET resume_at = clock_timestamp() WHERE id = %s", [saga_id])


def test_a_waiting_saga_goes_on_by_signal_timer_and_approval() -> None:
    saga = begin("test_waiting")
    assert saga.status is Status.WAITING
    saga = send(saga, "paid", {"amount": 5})
    assert (saga.status, saga.steps[2].status) == (Status.WAITING, StepStatus.WAITING)
    make_due(saga.id, 2, "until")
    assert engine.take_waiting(10) == [saga.id]
    saga = run(recovery.resume(saga.id))
    assert saga.steps[3].status is StepStatus.WAITING
    saga = send(saga, "boss", {"approved": True, "by": "ann"})
    assert (saga.status, saga.result) == (Status.COMPLETED, {"sum": 5})


def test_a_signal_that_comes_before_its_wait_is_found_and_counts_once() -> None:
    started = engine.start("test_waiting", {})
    engine.signal(started.state.id, "paid", {"amount": 7}, signal_id="s1")
    engine.signal(started.state.id, "paid", {"amount": 7}, signal_id="s1")
    saga = run(Progress(engine.load(started.state.id), (0,)))
    assert saga.steps[1].result == {"amount": 7}
    assert saga.mailbox == ()


def test_a_refused_approval_and_a_late_signal_turn_the_saga() -> None:
    saga = send(begin("test_waiting"), "paid", {"amount": 1})
    make_due(saga.id, 2, "until")
    saga = run(recovery.resume(saga.id))
    saga = send(saga, "boss", {"approved": False, "reason": "too dear"})
    assert (saga.status, saga.error) == (
        Status.FAILED,
        {"step": "boss-agrees", "code": "rejected", "reason": "too dear"},
    )
    late = begin("test_waiting")
    make_due(late.id, 1, "until")
    late = run(recovery.resume(late.id))
    assert late.error is not None
    assert (late.status, late.error["code"]) == (Status.FAILED, "wait_timeout")
    with pytest.raises(NotAllowed, match="has ended"):
        send(late, "paid", {})


def test_a_saga_that_waits_for_days_costs_a_row_and_no_message(
    installed: list[tuple[SagaState, tuple[int, ...]]],
) -> None:
    saga = begin("test_waiting")
    row = Saga.objects.get(id=saga.id)
    assert row.wake_at is None
    assert row.resume_at is not None
    assert (row.resume_at - row.created_at).days >= 2
    assert not installed
    assert engine.take_interrupted(10) == engine.take_waiting(10) == engine.take_overdue(10) == []


def test_a_child_is_started_once_and_undone_with_its_parent() -> None:
    parent = begin("test_whole", order_id=4)
    child = engine.load(Saga.objects.get(parent=parent.id).id)
    assert parent.status is Status.WAITING
    with pytest.raises(NotAllowed, match="parent"):
        engine.compensate(child.id, actor="ann", reason="why not")
    child = run(Progress(child, engine.due_positions(child)))
    assert child.status is Status.COMPLETED
    parent = run(recovery.resume(parent.id))
    assert parent.steps[0].result["saga_id"] == str(child.id)

    parent = run(engine.compensate(parent.id, actor="ann", reason="changed her mind"))
    child = engine.load(child.id)
    assert child.status is Status.COMPENSATING
    child = run(Progress(child, engine.due_positions(child)))
    assert child.status is Status.COMPENSATED
    parent = run(engine.retry(parent.id, actor="ann", reason="do not wait for the poll"))
    assert parent.status is Status.COMPENSATED
    assert Saga.objects.filter(parent=parent.id).count() == 1


def test_a_lock_makes_the_second_saga_wait_in_order_and_ends_with_its_saga() -> None:
    first, second, third = (begin("test_locked", order_id=9) for _ in range(3))
    assert [s.steps[0].status for s in (first, second, third)] == [
        StepStatus.WAITING,
        StepStatus.PENDING,
        StepStatus.PENDING,
    ]
    with pytest.raises(LockHeld, match=str(first.id)):
        engine.start("test_refusing", {"order_id": 9})
    assert send(first, "done", {}).status is Status.COMPLETED
    assert engine.first_in_line("order:9") == second.id
    third = run(recovery.resume(third.id))
    assert third.steps[0].status is StepStatus.PENDING
    second = run(recovery.resume(second.id))
    assert second.steps[0].status is StepStatus.WAITING
    with pytest.raises(NotAllowed, match=str(second.id)):
        engine.compensate(first.id, actor="ann", reason="undo under a foreign lock")
    send(second, "done", {})
    send(run(recovery.resume(third.id)), "done", {})
    assert not SagaLock.objects.exists()
    assert run(engine.compensate(first.id, actor="ann", reason="free now")).status is Status.COMPENSATED
    assert not SagaLock.objects.exists()


def test_a_saga_whose_place_in_the_queue_was_never_written_gets_it_from_the_scan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(engine, "take_lock", lambda state: state)  # the process ends right before it
        saga = engine.start("test_locked", {"order_id": 21}).state
    assert Saga.objects.get(id=saga.id).resume_at is not None
    assert run(recovery.resume(saga.id)).steps[0].status is StepStatus.WAITING
    assert SagaLock.objects.get(saga=saga.id).held


@pytest.mark.parametrize("saga_type", ["test_wide", "test_wide_inline"])
def test_a_group_joins_once_and_a_condition_skips(saga_type: str) -> None:
    saga = begin(saga_type)
    assert (saga.status, saga.result) == (Status.COMPLETED, {"sum": 6})
    skipping = begin(saga_type, fail=True)
    assert (skipping.result, skipping.steps[2].status) == ({"sum": 3}, StepStatus.SKIPPED)
    claims = SagaEvent.objects.filter(saga=saga.id, kind="step_claimed", step="summary")
    assert claims.count() == 1


def test_a_bug_in_a_definition_parks_and_the_fix_lets_it_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    saga = begin("test_part", fail=True)
    assert saga.status is Status.PARKED
    assert saga.error is not None
    assert "made to fail" in saga.error["reason"]
    fixed = Part()
    fixed.__class__ = type("Fixed", (Part,), {}, register=False)
    monkeypatch.setattr(Part.steps[0], "action", lambda self, saga: {"part": 1})
    assert run(engine.retry(saga.id, actor="ann", reason="fixed")).status is Status.COMPLETED


def test_steps_are_settled_by_hand_paused_and_resolved() -> None:
    saga = begin("test_waiting")
    saga = run(
        engine.intervene(
            saga.id, "mark-done", actor="ann", reason="paid in cash",
            wish=Wish(step="payment-arrives", data={"amount": 3}),
        )
    )  # fmt: skip
    saga = run(engine.intervene(saga.id, "pause", actor="ann", reason="audit"))
    assert saga.paused_at is not None
    saga = run(engine.intervene(saga.id, "skip", actor="ann", reason="hurry", wish=Wish(step="cool-down")))
    assert saga.steps[2].status is StepStatus.SKIPPED
    saga = run(engine.intervene(saga.id, "resume", actor="ann", reason="go on"))
    assert run(Progress(saga, ())).paused_at is None
    saga = send(saga, "boss", {"approved": True})
    assert saga.result == {"sum": 3}
    parked = begin("test_part", fail=True)
    with pytest.raises(NotAllowed, match="outcome is one of completed, failed"):
        engine.intervene(parked.id, "resolve", actor="ann", reason="by phone")
    wish = Wish(outcome="completed")
    parked = run(engine.intervene(parked.id, "resolve", actor="ann", reason="by phone", wish=wish))
    assert (parked.status, parked.steps[0].status) == (Status.COMPLETED, StepStatus.SKIPPED)
    by = SagaEvent.objects.get(saga=parked.id, kind="resolve")
    assert (by.actor, by.reason) == ("ann", "by phone")


def test_retry_from_undoes_that_step_and_those_behind_and_repeats_them() -> None:
    first = send(begin("test_locked", order_id=11), "done", {})
    assert first.status is Status.COMPLETED
    again = run(engine.intervene(first.id, "retry-from", actor="ann", reason="redo", wish=Wish(step="work")))
    assert (again.status, again.steps[0].generation, again.steps[1].generation) == (Status.COMPLETED, 0, 1)
    kinds = list(SagaEvent.objects.filter(saga=first.id, step="work").values_list("kind", flat=True))
    assert kinds.count("step_compensated") == 1
    assert kinds.count("step_completed") == 2


def test_a_paused_type_is_not_claimed_until_it_is_resumed() -> None:
    engine.pause_type("test_part", actor="ann", reason="release")
    engine._paused = (0.0, frozenset())
    saga = begin("test_part")
    assert saga.status is Status.PENDING
    assert engine.take_interrupted(10) == []
    engine.resume_type("test_part", actor="ann", reason="released")
    engine._paused = (0.0, frozenset())
    assert run(recovery.resume(saga.id)).status is Status.COMPLETED


def test_a_worker_that_goes_on_inline_minds_a_pause_of_the_type(monkeypatch: pytest.MonkeyPatch) -> None:
    act = worker.act

    def pausing(*what: Any) -> Any:
        engine.pause_type("test_wide_inline", actor="ann", reason="release")
        engine._paused = (0.0, frozenset())  # as if a second had passed
        return act(*what)

    monkeypatch.setattr(worker, "act", pausing)
    saga = begin("test_wide_inline")
    assert [step.status for step in saga.steps].count(StepStatus.COMPLETED) == 1
    assert not any(step.in_flight for step in saga.steps)
    monkeypatch.setattr(worker, "act", act)
    engine.resume_type("test_wide_inline", actor="ann", reason="released")
    engine._paused = (0.0, frozenset())
    assert run(recovery.resume(saga.id)).status is Status.COMPLETED


def test_a_record_is_not_lost_with_the_connection_that_would_have_asked_for_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    act = worker.act

    def away() -> frozenset[str]:
        raise OperationalError("the server restarts")

    def restarting(*what: Any) -> Any:
        monkeypatch.setattr(engine, "paused_types", away)
        return act(*what)

    monkeypatch.setattr(worker, "act", restarting)
    state = engine.start("test_wide_inline", {}).state
    progress = worker.advance(registry.get(state.type, state.version), state.id, 0, state.epoch)
    assert progress.claimed is None
    assert engine.load(state.id).steps[0].status is StepStatus.COMPLETED


def test_the_time_that_a_type_was_paused_does_not_count_against_a_steps_total() -> None:
    state = engine.start("test_part", {}).state
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE sagas_sagastep SET started_at = clock_timestamp() - interval '1 hour' WHERE saga_id = %s",
            [state.id],
        )
        engine.pause_type("test_part", actor="ann", reason="release")
        cursor.execute("UPDATE sagas_typepause SET at = at - interval '50 minutes'")
    engine.resume_type("test_part", actor="ann", reason="released")
    begun = engine.load(state.id).steps[0].started_at
    assert begun is not None
    assert timedelta(minutes=9) < engine.clock.now() - begun < timedelta(minutes=11)
