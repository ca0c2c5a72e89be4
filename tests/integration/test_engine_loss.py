"""Connections that are lost around a commit: what was written is read back, never written blind."""

from collections.abc import Callable, Iterator
from functools import partial
from threading import Thread
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection

from sagas import engine
from sagas.engine import Progress
from sagas.state import Done, SagaState, StepStatus
from tests.definitions import Chain, InlineChain
from tests.engine import claimed, definition_of, deliver, kinds, registered, together
from tests.scripted import Scripted
from tests.serving import url_of
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def definitions() -> Iterator[None]:
    """Code for the sagas of these tests."""
    with registered(Chain, InlineChain):
        yield


@pytest.fixture
def other(transactional_db: None) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the same database that is nobody's."""
    with psycopg.connect(url_of("default"), autocommit=True) as made:
        yield made


def backend() -> int:
    """The server process of this thread's connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def recording(state: SagaState) -> Callable[[], Progress]:
    """The record of the first step's success."""
    return partial(engine.record, definition_of(state), state, 0, Done({"id": 1}))


def test_rule_6_a_record_whose_connection_dies_before_it_is_written_is_written_on_another(
    other: psycopg.Connection[Any],
) -> None:
    state = claimed(engine.start("chain", {}).state)
    other.execute("SELECT pg_terminate_backend(%s)", [backend()])
    assert recording(state)().due == (1,)
    assert kinds(state.id) == ["saga_started", "step_claimed", "step_completed"]


def test_rule_6_a_record_that_is_killed_while_it_waits_for_the_lock_is_written_once(
    other: psycopg.Connection[Any],
) -> None:
    state = claimed(engine.start("chain", {}).state)
    pids: list[int] = []

    def record() -> Progress:
        pids.append(backend())
        return recording(state)()

    told: list[Any] = []
    worker = Thread(target=lambda: told.extend(together(record)))
    with other.transaction():
        other.execute("SELECT 1 FROM sagas_saga WHERE id = %s FOR UPDATE", [state.id])
        worker.start()
        waits = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
        with psycopg.connect(url_of("default"), autocommit=True) as third:
            wait_for(lambda: pids and third.execute(waits, [pids[0]]).fetchone(), "the record to wait")
            third.execute("SELECT pg_terminate_backend(%s)", [pids[0]])
    worker.join(30)
    assert [p.due for p in told] == [(1,)]
    assert kinds(state.id) == ["saga_started", "step_claimed", "step_completed"]


@pytest.mark.parametrize("saga_type", ["chain", "inline_chain"])
def test_rule_6_a_commit_whose_answer_is_lost_is_read_back(
    saga_type: str, other: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = claimed(engine.start(saga_type, {}).state)
    query = engine._query

    def loses_the_answer(sql: str, params: Any) -> list[Any]:
        rows = query(sql, params)
        if sql.startswith(engine.APPLY):
            monkeypatch.setattr(engine, "_query", query)
            other.execute("SELECT pg_terminate_backend(%s)", [backend()])
            return query("SELECT 1", ())
        return rows

    monkeypatch.setattr(engine, "_query", loses_the_answer)
    go_on = saga_type == "inline_chain"
    progress = engine.record(definition_of(state), state, 0, Done({"id": 1}), go_on=go_on)
    after = engine.load(state.id)
    assert after.steps[0].status is StepStatus.COMPLETED
    assert kinds(state.id).count("step_completed") == 1
    if go_on:  # the claim that was written with it is nobody's; its lease ends
        assert (progress.claimed, progress.due, after.steps[1].in_flight) == (None, (), True)
    else:
        assert progress.due == (1,)


def test_a_claim_whose_answer_is_lost_sends_nothing_and_is_left_to_its_lease(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = engine.start("chain", {}).state
    query = engine._query

    def loses_the_answer(sql: str, params: Any) -> list[Any]:
        rows = query(sql, params)
        if sql == engine.CLAIM:
            raise OperationalError("server closed the connection unexpectedly")
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_query", loses_the_answer)
        with pytest.raises(OperationalError):
            deliver(state, 0)
    after = engine.load(state.id)
    assert (after.steps[0].in_flight, scripted.received) == (True, [])
    assert deliver(state, 0).state is None


def test_no_transaction_is_open_while_a_participant_works(
    scripted: Scripted, other: psycopg.Connection[Any]
) -> None:
    state = engine.start("chain", {}).state
    release = scripted.hold()
    told: list[Any] = []
    worker = Thread(target=lambda: told.extend(together(partial(deliver, state, 0))))
    worker.start()
    assert scripted.arrived.wait(20)
    open_ones = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
    )
    held = (
        "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE c.relname LIKE 'sagas_%'"
    )
    for question in (open_ones, held):
        row = other.execute(question).fetchone()
        assert row is not None
        assert row[0] == 0
    release.set()
    worker.join(30)
    assert [p.due for p in told] == [(1,)]
