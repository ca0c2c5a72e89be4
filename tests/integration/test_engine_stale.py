"""What was read a while ago takes no hold: looks at a queue, claims that slept, starts in transactions."""

import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction

from sagas import dispatch, engine, recovery
from sagas.admin.verbs import OFFERS, foresee
from sagas.claims import RUNG_WITHIN
from sagas.conf import conf
from sagas.errors import NotAllowed
from sagas.interventions import Wish
from sagas.models import Saga, SagaLock
from sagas.state import SagaState, Status, Transient
from tests.definitions import Chain, Locked
from tests.engine import claimed, definition_of, drive, registered
from tests.scripted import Scripted

pytestmark = pytest.mark.django_db(transaction=True)
LEASE = timedelta(seconds=30)


@pytest.fixture(autouse=True)
def definitions() -> Iterator[None]:
    """Code for the sagas of these tests."""
    with registered(Chain, Locked):
        yield


def start(saga_type: str) -> SagaState:
    return engine.start(saga_type, {}).state


def test_rule_18_a_late_look_at_a_queue_takes_no_place_in_it(scripted: Scripted) -> None:
    holder, waiting = start("locked"), start("locked")
    seen = engine.load(waiting.id)
    assert seen.awaits_lock
    drive(holder.id)
    recovery.look(waiting.id)
    drive(waiting.id)
    assert engine.take_lock(seen).status is Status.COMPLETED
    assert not SagaLock.objects.exists()
    assert not start("locked").awaits_lock


def test_rule_18_a_saga_that_is_cancelled_as_it_starts_takes_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    take_lock = engine.take_lock

    def late(state: SagaState) -> SagaState:
        engine.compensate(state.id, actor="ann", reason="changed my mind")
        return take_lock(state)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "take_lock", late)
        assert start("locked").status is Status.FAILED
    assert not SagaLock.objects.exists()
    assert not start("locked").awaits_lock


def test_rule_18_starts_in_two_transactions_want_one_lock() -> None:
    """The second waits for the first to commit, and its own transaction outlives that it gets no lock."""
    begun, may_commit = threading.Event(), threading.Event()

    def first() -> None:
        try:
            with transaction.atomic():
                start("locked")
                begun.set()
                assert may_commit.wait(30)
        finally:
            connection.close()

    def commit_when_waited_for() -> None:
        try:
            for _ in range(3000):
                with connection.cursor() as cursor:
                    cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
                    if cursor.fetchone()[0]:
                        break
                may_commit.wait(0.01)
        finally:
            may_commit.set()
            connection.close()

    threads = [threading.Thread(target=first), threading.Thread(target=commit_when_waited_for)]
    threads[0].start()
    assert begun.wait(30)
    threads[1].start()
    with transaction.atomic():
        second = start("locked")
        assert Saga.objects.filter(id=second.id).exists()
    for thread in threads:
        thread.join()
    assert engine.load(second.id).awaits_lock


def test_rule_4_a_claim_that_slept_beyond_its_lease_holds_no_more(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its statement waited for the saga's lock; before it reads afresh, the step goes on without it."""
    state = start("chain")
    query, load = engine._query, engine.load

    def waited(statement: str, params: Sequence[Any]) -> list[Any]:
        rows = query(statement, params)
        if statement == engine.CLAIM:
            now, seen, *rest = rows[0]
            return [(now, seen - 1, *rest)]
        return rows

    def slept(saga_id: Any) -> SagaState:
        monkeypatch.setattr(engine, "load", load)
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE sagas_sagastep SET lease_until = now() - interval '1 s' WHERE position = 0"
            )
        recovery.resume(saga_id)
        return load(saga_id)

    monkeypatch.setattr(engine, "_query", waited)
    monkeypatch.setattr(engine, "load", slept)
    assert engine.claim(state.id, 0, state.epoch, LEASE) is None


def test_rule_4_a_claim_that_waited_for_the_lock_is_read_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    state = start("chain")
    query = engine._query

    def waited(statement: str, params: Sequence[Any]) -> list[Any]:
        rows = query(statement, params)
        if statement == engine.CLAIM:
            now, seen, *rest = rows[0]
            return [(now, seen - 1, *rest)]
        return rows

    monkeypatch.setattr(engine, "_query", waited)
    held = engine.claim(state.id, 0, state.epoch, LEASE)
    assert held is not None
    assert held.steps[0].in_flight
    assert held.steps[0].attempts == 1


def test_rule_7_what_is_due_much_later_is_left_to_the_scan(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message for it would lie in a worker's memory, and be delivered again and again by Redis."""
    state = claimed(start("chain"), 0)
    outcome = Transient("try again tomorrow", retry_after=timedelta(days=1))
    progress = engine.record(definition_of(state), state, 0, outcome)
    assert progress.state is not None
    due_at = progress.state.steps[0].due_at
    assert due_at is not None
    sent: list[Any] = []
    monkeypatch.setattr(dispatch, "chain_from", lambda *given: sent.append(given))
    dispatch.ring(progress.state, progress.due, engine.clock.now())
    assert not sent
    assert Saga.objects.get(id=state.id).wake_at == due_at
    assert due_at - engine.clock.now() > RUNG_WITHIN > conf().ring_after


def age_keys(state: SagaState, days: int) -> None:
    """Let a saga's keys have been issued so many days ago."""
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE sagas_sagastep SET request = jsonb_set(request, '{issued_at}', to_jsonb(
                   (request ->> 'issued_at')::timestamptz - make_interval(days => %s))) WHERE saga_id = %s""",
            [days, state.id],
        )


@pytest.mark.parametrize("verb", ["compensate", "retry-from"])
def test_rule_18_a_finished_saga_is_not_undone_past_the_retention_of_its_keys(
    verb: str, scripted: Scripted
) -> None:
    saga = drive(start("chain").id)
    age_keys(saga, 28)
    assert engine.foresee(saga.id, verb, wish=Wish(step="second")).status == "compensating"
    age_keys(saga, 2)
    for ask in (engine.foresee, partial(engine.intervene, actor="ann", reason="recall")):
        with pytest.raises(NotAllowed, match=r"shop may have forgotten the key of .*, it is 30 days old"):
            ask(saga.id, verb, wish=Wish(step="second"))
    assert engine.load(saga.id).status is Status.COMPLETED


def test_the_admin_does_not_offer_what_the_retention_of_keys_forbids(scripted: Scripted) -> None:
    saga = drive(start("chain").id)
    age_keys(saga, 45)
    foreseen = foresee(OFFERS["compensate"], engine.load(saga.id), "ann", engine.clock.now())
    assert "may have forgotten the key" in foreseen.refusal
