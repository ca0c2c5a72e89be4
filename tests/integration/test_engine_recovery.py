"""Rules 7, 9, 19, 20, 21: what the fast path loses, the scans find, and nothing is made stale by that."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from prometheus_client import REGISTRY

from sagas import engine, recovery, worker
from sagas.models import Heartbeat, Saga
from sagas.state import Done, Effect, Impossible, Refused, SagaState, Status, StepStatus
from tests.definitions import Chain, Pivot
from tests.engine import claimed, definition_of, deliver, drive, kinds, put_back, registered, together
from tests.scripted import LOST_ANSWER, LOST_REQUEST, Scripted, refuses

pytestmark = pytest.mark.django_db(transaction=True)

ENDED_LEASE = timedelta(seconds=-1)
Bells = list[tuple[UUID, tuple[int, ...]]]


@pytest.fixture(autouse=True)
def definitions() -> Iterator[None]:
    """Code for the sagas of these tests."""
    with registered(Chain, Pivot):
        yield


def start(saga_type: str = "chain", **options: Any) -> SagaState:
    """A saga that has just begun, and for which nobody rings."""
    return engine.start(saga_type, {}, **options).state


def dead_worker(state: SagaState, *, sends: bool) -> None:
    """Claims the first step and dies, before its call or behind it."""
    taken = claimed(state, engine.due_positions(state)[0], ENDED_LEASE)
    if sends:
        worker.act(definition_of(state), taken, engine.due_positions(state)[0])


def recovered(state: SagaState) -> SagaState:
    """The saga after a recovery scan that finds it."""
    put_back(state.id, "wake_at")
    assert recovery.recover() == 1
    return engine.load(state.id)


# --- Lost messages ------------------------------------------------------------------------------------


def test_rule_7_a_saga_whose_message_was_lost_is_rung_for_at_the_same_epoch(
    scripted: Scripted, bells: Bells
) -> None:
    state = start()
    assert recovery.recover() == 0
    after = recovered(state)
    assert bells == [(state.id, (0,))]
    assert (after.epoch, after.rings) == (0, 1)
    assert drive(state.id).status is Status.COMPLETED


def test_rule_19_the_messages_of_a_backlog_stay_good_while_scans_ring(
    scripted: Scripted, bells: Bells
) -> None:
    state = start()
    for _ in range(3):
        recovered(state)
    assert deliver(state, 0).due == (1,)
    assert engine.load(state.id).rings == 0


def test_rule_19_an_old_backlog_is_rung_for_once_a_scan(bells: Bells) -> None:
    sagas = {start().id for _ in range(2 * recovery.BATCH + 20)}
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE sagas_sagastep SET due_at = due_at - interval '1 day' WHERE due_at IS NOT NULL"
        )
        cursor.execute("UPDATE sagas_saga SET wake_at = wake_at - interval '1 day', rings = 9")
    assert recovery.recover() == len(sagas)
    assert sorted(saga_id for saga_id, _ in bells) == sorted(sagas)
    assert recovery.recover() == 0


def test_rule_21_two_scans_at_once_share_the_work(bells: Bells) -> None:
    sagas = [start().id for _ in range(30)]
    for saga_id in sagas:
        put_back(saga_id, "wake_at")
    seen = together(recovery.recover, recovery.recover)
    assert sum(count for count in seen if isinstance(count, int)) == 30, seen
    assert sorted(saga_id for saga_id, _ in bells) == sorted(sagas)


def test_rule_21_scans_leave_their_time(bells: Bells) -> None:
    recovery.recover()
    recovery.expire()
    assert set(Heartbeat.objects.values_list("name", flat=True)) == {"recover", "expire"}


def test_one_sagas_trouble_does_not_keep_a_scan_from_the_others(
    bells: Bells, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = start(), start()
    resume = recovery.resume

    def fails_once(saga_id: UUID) -> engine.Progress:
        if saga_id == bad.id:
            raise RuntimeError("no")
        return resume(saga_id)

    for state in (bad, good):
        put_back(state.id, "wake_at")
    monkeypatch.setattr(recovery, "resume", fails_once)
    assert recovery.recover() == 2
    assert bells == [(good.id, (0,))]


@pytest.mark.parametrize(
    ("name", "scan", "column"),
    [("give_up", recovery.expire, "deadline_at"), ("resume", recovery.recover, "wake_at")],
)
def test_a_page_of_sagas_that_cannot_be_mended_keeps_no_other_waiting(
    name: str, scan: Callable[[], int], column: str, bells: Bells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "BATCH", 3)
    monkeypatch.setattr(recovery, "SLICE", timedelta(seconds=2))
    looked: list[UUID] = []

    def raises(saga_id: UUID) -> engine.Progress:
        looked.append(saga_id)
        if saga_id != last.id:
            # Nobody else's hold is to keep a saga from being taken again.
            put_back(saga_id, "wake_at")
            raise RuntimeError("no")
        return engine.Progress(None)

    raises.__name__ = name
    sagas = [start() for _ in range(7)]
    last = sagas[-1]
    for state in sagas:
        put_back(state.id, column)
    monkeypatch.setattr(recovery, name, raises)
    before = unmended(name)
    assert scan() == 7
    assert looked == [*looked[:-1], last.id]
    assert sorted(looked) == sorted(state.id for state in sagas)
    assert unmended(name) == before + 6


def unmended(scan: str) -> float:
    """How often a scan has met a saga that it could not mend."""
    return REGISTRY.get_sample_value("saga_unmended_total", {"scan": scan}) or 0.0


def test_a_scan_ends_in_the_midst_of_a_batch_when_its_time_is_over(
    bells: Bells, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    resume = recovery.resume

    def slow(saga_id: UUID) -> engine.Progress:
        now[0] += recovery.SLICE.total_seconds() / 2
        return resume(saga_id)

    sagas = [start().id for _ in range(5)]
    for saga_id in sagas:
        put_back(saga_id, "wake_at")
    monkeypatch.setattr(recovery, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(recovery, "resume", slow)
    assert recovery.recover() == 2
    assert len(bells) == 2
    for saga_id in set(sagas) - {saga_id for saga_id, _ in bells}:
        put_back(saga_id, "wake_at")
    assert recovery.recover() == 2
    assert len({saga_id for saga_id, _ in bells}) == 4


# --- Lost workers -------------------------------------------------------------------------------------


def test_rule_9_a_lost_workers_call_that_was_done_is_not_repeated(scripted: Scripted, bells: Bells) -> None:
    state = start()
    dead_worker(state, sends=True)
    after = recovered(state)
    assert (after.steps[0].status, after.steps[0].crashes) == (StepStatus.COMPLETED, 1)
    assert bells == [(state.id, (1,))]
    assert scripted.operations() == ["first"]


def test_rule_9_a_lost_workers_call_that_was_refused_turns_the_saga(scripted: Scripted, bells: Bells) -> None:
    state = start()
    scripted.will("first", refuses("sold_out"))
    dead_worker(state, sends=True)
    after = recovered(state)
    assert after.status is Status.FAILED
    assert (after.error or {})["code"] == "sold_out"


@pytest.mark.parametrize("sends", [True, False])
def test_rule_9_a_call_of_which_nothing_is_known_is_repeated_under_its_key(
    sends: bool, scripted: Scripted, bells: Bells
) -> None:
    state = start()
    dead_worker(state, sends=sends)
    scripted.knows_nothing = True
    after = recovered(state)
    step = after.steps[0]
    assert (step.status, step.effect, step.attempts - step.forgiven) == (
        StepStatus.PENDING,
        Effect.UNKNOWN,
        0,
    )
    assert drive(state.id).status is Status.COMPLETED
    assert len(set(scripted.keys("first"))) == 1
    assert {r.body for r in scripted.received if r.operation == "first"} == {"{}"}


def test_rule_9_a_lost_workers_compensation_is_asked_about_too(scripted: Scripted, bells: Bells) -> None:
    state = start()
    deliver(state, 0)
    scripted.will("second", refuses())
    turned = deliver(engine.load(state.id), 1).state
    assert turned is not None
    dead_worker(turned, sends=True)
    assert recovered(turned).status is Status.COMPENSATED
    assert scripted.operations() == ["first", "second", "undo-first"]


def test_a_lease_that_runs_is_left_alone(bells: Bells) -> None:
    state = start()
    before = claimed(state)
    after = recovered(state)
    assert (after.rev, after.steps[0].attempts) == (before.rev, 1)
    assert bells == []


# --- Deadlines ----------------------------------------------------------------------------------------


def expired(state: SagaState) -> SagaState:
    """The saga after its deadline has passed and the timeout scan has found it."""
    put_back(state.id, "deadline_at")
    assert recovery.expire() == 1
    return engine.load(state.id)


def test_rule_20_a_deadline_is_extended_once_and_then_turns_the_saga(
    scripted: Scripted, bells: Bells
) -> None:
    state = start()
    second = deliver(state, 0).state
    assert second is not None
    extended = expired(second)
    assert (extended.status, extended.extensions) == (Status.IN_PROGRESS, 1)
    assert recovery.expire() == 0
    turned = expired(extended)
    assert (turned.status, (turned.error or {})["code"]) == (Status.COMPENSATING, "timeout")
    assert bells == [(state.id, (1,)), (state.id, (0,))]
    assert drive(state.id).status is Status.COMPENSATED


def test_rule_15_no_deadline_turns_a_saga_past_its_pivot(scripted: Scripted, bells: Bells) -> None:
    state = start("pivot")
    deliver(state, 0)
    claimed(engine.load(state.id), 1)
    for _ in range(3):
        assert expired(state).status is Status.IN_PROGRESS


def test_rule_20_paused_and_parked_sagas_neither_ring_nor_time_out(bells: Bells) -> None:
    paused, parked = start(), start()
    engine.intervene(paused.id, "pause", actor="ann", reason="wait")
    definition = definition_of(parked)
    forbidden = engine.record(definition, claimed(parked), 0, Impossible("http_401", "no"))
    assert forbidden.state is not None
    assert forbidden.state.status is Status.PARKED
    with connection.cursor() as cursor:
        cursor.execute("UPDATE sagas_saga SET wake_at = created_at, deadline_at = created_at")
    assert (recovery.recover(), recovery.expire()) == (0, 0)


def test_rule_20_resuming_moves_the_deadline_on_by_the_pause(bells: Bells) -> None:
    state = start()
    engine.intervene(state.id, "pause", actor="ann", reason="wait")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE sagas_saga SET paused_at = paused_at - interval '1 hour'")
    engine.intervene(state.id, "resume", actor="ann", reason="go on")
    after = engine.load(state.id)
    assert after.deadline_at is not None
    assert state.deadline_at is not None
    assert after.deadline_at - state.deadline_at >= timedelta(hours=1)


# --- Over real HTTP -----------------------------------------------------------------------------------


def test_answers_lost_three_times_leave_nothing_behind(scripted: Scripted) -> None:
    state = start()
    scripted.will("second", *[LOST_ANSWER] * 3)
    after = drive(state.id)
    assert after.status is Status.COMPENSATED
    assert scripted.keys("second") == [f"{state.id}:second:action:0"] * 3
    assert scripted.operations()[-2:] == ["undo-second", "undo-first"]
    assert scripted.standing() == set()
    undo = next(r for r in scripted.received if r.operation == "undo-second")
    assert undo.undoes == f"{state.id}:second:action:0"


def test_requests_lost_three_times_are_undone_too_and_kept_out(scripted: Scripted) -> None:
    state = start()
    scripted.will("second", *[LOST_REQUEST] * 3)
    assert drive(state.id).status is Status.COMPENSATED
    assert scripted.kept[f"{state.id}:second:action:0"].code == "compensated_before"


def test_rule_11_a_retry_after_undoing_does_the_work_again_under_new_keys(scripted: Scripted) -> None:
    state = start()
    scripted.will("third", refuses("too_dear"))
    assert drive(state.id).status is Status.COMPENSATED
    engine.retry(state.id, actor="ann", reason="cheaper now", request_id="r1")
    assert drive(state.id).status is Status.COMPLETED
    assert scripted.keys("first") == [f"{state.id}:first:action:{n}" for n in (0, 1)]
    assert scripted.standing() == {"first", "second", "third", "last"}
    before, asked = engine.load(state.id), len(scripted.received)
    for _ in range(3):
        assert engine.retry(state.id, actor="ann", reason="cheaper now", request_id="r1").due == ()
    assert engine.load(state.id) == before
    assert len(scripted.received) == asked
    assert kinds(state.id).count("retry") == 1


def test_rule_10_a_refused_first_step_fails_and_can_be_retried(scripted: Scripted) -> None:
    state = start()
    scripted.will("first", refuses())
    assert drive(state.id).status is Status.FAILED
    engine.retry(state.id, actor="ann", reason="again")
    assert drive(state.id).status is Status.COMPLETED


@pytest.mark.parametrize(
    "text",
    ["a\0b", "\ud800", "\U0001f600", "\\u0000", "\0\0"],
    ids=["nul", "half", "pair", "escaped", "nuls"],
)
def test_whatever_an_answer_holds_can_be_recorded(text: str) -> None:
    state = start()
    engine.record(definition_of(state), claimed(state), 0, Done({"id": text}))
    told = engine.load(state.id).steps[0].result["id"]
    assert told == text.replace("\0", "\ufffd").replace("\ud800", "?")
    second = claimed(engine.load(state.id), 1)
    engine.record(definition_of(state), second, 1, Refused("no", text))
    assert Saga.objects.get(id=state.id).status == Status.COMPENSATING
