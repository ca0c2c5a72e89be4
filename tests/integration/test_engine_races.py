"""Many at once on a real PostgreSQL: whoever comes second finds it done."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from threading import Barrier
from typing import Any

import pytest
from django.db import connection

from sagas import engine, recovery
from sagas.engine import Progress
from sagas.errors import IdempotencyConflict, NotAllowed
from sagas.models import Saga, SagaEvent
from sagas.state import Done, Effect, Refused, SagaState, Status, StepStatus
from tests.definitions import Chain, Group, LocalPair
from tests.engine import claimed, definition_of, deliver, drive, kinds, put_back, registered, together
from tests.scripted import Scripted

pytestmark = pytest.mark.django_db(transaction=True)

ENDED_LEASE = timedelta(seconds=-1)


@pytest.fixture(autouse=True)
def definitions() -> Iterator[None]:
    """Code for the sagas of these tests."""
    with registered(Chain, Group, LocalPair):
        yield


def start(saga_type: str = "chain", **options: Any) -> SagaState:
    """A saga that has just begun."""
    return engine.start(saga_type, {}, **options).state


def test_rule_4_of_five_workers_with_the_same_message_one_claims(scripted: Scripted) -> None:
    state = start()
    done = together(*[partial(deliver, state, 0)] * 5)
    assert all(isinstance(progress, Progress) for progress in done), done
    assert sorted(len(p.due) for p in done if isinstance(p, Progress)) == [0, 0, 0, 0, 1]
    assert scripted.operations() == ["first"]
    assert engine.load(state.id).steps[0].attempts == 1
    assert kinds(state.id) == ["saga_started", "step_claimed", "step_completed"]


def test_rule_6_a_stale_attempt_writes_nothing() -> None:
    state = start()
    slow = claimed(state, lease=ENDED_LEASE)
    recovery.resume(state.id)
    quick = claimed(engine.load(state.id))
    before, told = engine.load(state.id), kinds(state.id)
    late = engine.record(definition_of(state), slow, 0, Refused("late", "late"))
    assert (engine.load(state.id), kinds(state.id)) == (before, told)
    assert late.due == ()
    engine.record(definition_of(state), quick, 0, Done({"id": 1}))
    assert engine.load(state.id).steps[0].status is StepStatus.COMPLETED


def test_rule_6_the_same_record_twice_is_written_once() -> None:
    state = claimed(start())
    record = partial(engine.record, definition_of(state), state, 0, Done({"id": 1}))
    together(*[record] * 5)
    after = engine.load(state.id)
    assert (after.rev, after.sequence) == (state.rev + 1, 1)
    assert kinds(state.id).count("step_completed") == 1


def test_rule_3_a_message_of_a_past_epoch_claims_nothing(scripted: Scripted) -> None:
    state = start()
    second = deliver(state, 0).state
    assert second is not None
    turned = engine.compensate(state.id, actor="ann", reason="cancelled").state
    assert turned is not None
    before = engine.load(state.id)
    assert deliver(second, 1).state is None
    assert deliver(second, 0).state is None
    assert engine.load(state.id) == before
    assert drive(state.id).status is Status.COMPENSATED
    assert scripted.operations() == ["first", "undo-first"]


def test_rule_1_concurrent_starts_with_one_key_are_one_saga() -> None:
    begin: Callable[[], Any] = partial(engine.start, "chain", {}, idempotency_key="k")
    started = together(*[begin] * 8)
    assert len({s.state.id for s in started if isinstance(s, engine.Started)}) == 1, started
    assert [s.repeated for s in started if isinstance(s, engine.Started)].count(False) == 1
    assert Saga.objects.count() == 1


def test_rule_1_concurrent_starts_with_one_key_and_other_requests_conflict() -> None:
    started = together(
        lambda: engine.start("chain", {}, idempotency_key="k"),
        lambda: engine.start("group", {}, idempotency_key="k"),
    )
    assert {type(s) for s in started} == {engine.Started, IdempotencyConflict}


def test_rule_24_the_same_request_at_once_is_one_intervention() -> None:
    state = claimed(start())
    engine.record(definition_of(state), state, 0, Refused("no", "no"))
    retry = partial(engine.retry, state.id, actor="ann", reason="again", request_id="r1")
    done = together(*[retry] * 6)
    assert not [d for d in done if isinstance(d, Exception)]
    assert SagaEvent.objects.filter(saga_id=state.id, request_id="r1").count() == 1
    assert engine.load(state.id).steps[0].generation == 1


def at_its_last_step() -> SagaState:
    """A saga of which a worker is on the last step."""
    state = start()
    for position in range(3):
        engine.record(
            definition_of(state), claimed(engine.load(state.id), position), position, Done({"id": 1})
        )
    return claimed(engine.load(state.id), 3)


def test_rule_13_cancel_races_completion_and_both_orders_end_well(scripted: Scripted) -> None:
    for _ in range(25):
        state = last = at_its_last_step()
        done = together(
            partial(engine.record, definition_of(state), last, 3, Done({"id": 1})),
            partial(engine.compensate, state.id, actor="ann", reason="cancelled"),
        )
        assert not [d for d in done if isinstance(d, Exception) and not isinstance(d, NotAllowed)], done
        after = drive(state.id)
        assert after.status is Status.COMPENSATED
        assert [s.effect for s in after.steps[:3]] == [Effect.UNDONE] * 3
    assert scripted.operations() == ["undo-third", "undo-second", "undo-first"] * 25


def test_rule_20_timeout_races_completion_and_both_orders_end_well(scripted: Scripted) -> None:
    ends: list[Status] = []
    for _ in range(25):
        last = at_its_last_step()
        put_back(last.id, "deadline_at")
        recovery.give_up(last.id)  # it is extended once
        put_back(last.id, "deadline_at")
        done = together(
            partial(engine.record, definition_of(last), last, 3, Done({"id": 1})),
            partial(recovery.give_up, last.id),
        )
        assert not [d for d in done if isinstance(d, Exception)], done
        after = drive(last.id)
        ends.append(after.status)
        left = Effect.DONE if after.status is Status.COMPLETED else Effect.UNDONE
        assert [s.effect for s in after.steps[:3]] == [left] * 3
    assert set(ends) <= {Status.COMPLETED, Status.COMPENSATED}
    turned = ends.count(Status.COMPENSATED)
    assert scripted.operations() == ["undo-third", "undo-second", "undo-first"] * turned


def test_rule_14_a_thousand_joins_of_siblings_that_finish_together_fire_once_each() -> None:
    sagas = [start("local_pair") for _ in range(1000)]
    for state in sagas:
        claimed(state, 0)
        claimed(state, 1)
    states = [engine.load(state.id) for state in sagas]
    barrier = Barrier(2)

    def finish(position: int) -> Sequence[tuple[int, ...]]:
        try:
            told = []
            for state in states:
                barrier.wait(30)
                told.append(engine.record(definition_of(state), state, position, Done(position)).due)
            return told
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        left, right = pool.map(finish, (0, 1))
    assert [sorted(pair) for pair in zip(left, right, strict=True)] == [[(), (2,)]] * 1000
    for state in sagas:
        joined = engine.load(state.id).steps[2]
        assert (joined.due_at is not None, joined.attempts) == (True, 0)


def test_rule_6_a_claim_that_sees_the_saga_turn_still_goes_forward(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim waited for the lock, reads the saga again, and finds it turned in between."""
    state = start()
    query = engine._query

    def turns_meanwhile(sql: str, params: Any) -> list[Any]:
        rows = query(sql, params)
        if sql != engine.CLAIM or not rows:
            return rows
        monkeypatch.setattr(engine, "_query", query)
        engine.compensate(state.id, actor="ann", reason="cancelled")
        return [(rows[0][0], -1, *rows[0][2:])]

    monkeypatch.setattr(engine, "_query", turns_meanwhile)
    deliver(state, 0)
    assert scripted.operations() == ["first"]
    assert drive(state.id).status is Status.COMPENSATED
    assert scripted.operations() == ["first", "undo-first"]
