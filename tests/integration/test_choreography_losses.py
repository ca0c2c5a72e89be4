"""What nobody handled is found however old it is; what can never be handled is given up in the end."""

from collections.abc import Sequence
from functools import partialmethod
from threading import Thread
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction

from participants.orders.models import Order
from sagas.choreography import consumer, deadletters, projections, relay, store
from sagas.choreography.bus import bus
from sagas.choreography.events import Event, Fact
from sagas.choreography.models import AuditEntry, DeadLetter, OrdersByClient
from sagas.choreography.relay import Relay
from sagas.choreography.topics import Group, registry
from stack.waiting import wait_until
from tests.choreography import GOOD, begin, consume, execute, relay_all, settle, types

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.usefixtures("shop", "brisk"),
]

GIVEN_UP = ["CheckoutInitiated", "StockReservationFailed", "StockReleased", "CheckoutFailed"]
# As if the statement had run into its timeout.
CANCELLED = "DO $$ BEGIN RAISE query_canceled; END $$"


class Lost(BaseException):
    """The process is gone; nothing catches this."""


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event is older than a slow commit could be."""
    monkeypatch.setattr(relay, "HORIZON", "0 seconds")


@pytest.mark.usefixtures("old")
def test_old_events_lost_before_anybody_handled_one_are_found() -> None:
    stream = begin()
    relay_all()  # the first that ever ran
    bus().client.flushall()
    settle()
    assert types(stream) == GOOD
    assert execute("SELECT count(*) FROM choreography_auditentry") == [(4,)]


@pytest.mark.usefixtures("old")
def test_a_group_that_comes_later_is_not_told_the_past() -> None:
    begin()
    settle()
    for table in ("checkpoint", "inbox"):
        execute(f"DELETE FROM choreography_{table} WHERE consumer = 'choreo-notification'")  # noqa: S608  # named here
    bus().client.flushall()
    relay_all()
    assert consume("choreo-notification") == 0
    begin()
    relay_all()
    bus().client.flushall()
    settle()
    told = execute("SELECT count(*) FROM choreography_inbox WHERE consumer = 'choreo-notification'")
    assert told == [(1,)]


def settle_with_losses(most: int) -> int:
    """Go on until the end, with new processes for lost ones; tells how many were lost."""
    for losses in range(most):
        try:
            settle()
        except Lost:
            continue
        return losses
    raise AssertionError("lost without end")


def test_an_event_that_its_fold_dies_of_is_given_up_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = [begin() for _ in range(3)]
    original = projections.apply

    def deadly(group: Group, events: Sequence[Event]) -> Any:
        handled = execute("SELECT event_id FROM choreography_inbox WHERE consumer = 'choreo-audit'")
        new = {one.id for one in events} - {id for (id,) in handled}
        if group.name == "choreo-audit" and streams[0] in new:
            raise Lost
        return original(group, events)

    monkeypatch.setattr(projections, "apply", deadly)
    assert settle_with_losses(12) == 4
    assert [types(stream) for stream in streams] == [GOOD] * 3
    letter = DeadLetter.objects.get()
    assert (letter.consumer, letter.event_id, letter.deliveries) == ("choreo-audit", streams[0], 5)
    assert AuditEntry.objects.count() == 11


def test_an_event_that_its_reaction_dies_of_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = [begin() for _ in range(4)]
    original = consumer.react

    def deadly(group: Group, event: Event, *rest: Any) -> Any:
        if group.name == "choreo-reservation" and event.id == streams[0]:
            raise Lost
        return original(group, event, *rest)

    monkeypatch.setattr(consumer, "react", deadly)
    assert settle_with_losses(12) == 4
    assert [types(stream) for stream in streams] == [GIVEN_UP, GOOD, GOOD, GOOD]
    assert DeadLetter.objects.get().event_id == streams[0]


def test_upkeep_publishes_nothing_again_that_is_still_on_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Relay, "requeue", partialmethod(Relay.requeue, grace="0 seconds"))
    stream = begin()
    settle()
    topic = registry.groups["choreo-notification"].topic
    bus().client.xgroup_destroy(topic.name, "choreo-notification")
    execute("DELETE FROM choreography_inbox WHERE consumer = 'choreo-notification'")
    execute("UPDATE choreography_checkpoint SET at = now() - interval '1 hour'")
    length = bus().client.xlen(topic.name)
    for _ in range(3):
        Relay(bus()).upkeep()
        assert relay_all() == 0
    assert bus().client.xlen(topic.name) == length
    assert consume("choreo-notification") == length
    assert types(stream) == GOOD


def letter_of_a_fold() -> DeadLetter:
    """The read model of orders by client gave up one order."""
    original = projections.statement

    def cancelled(group: Group, selection: str) -> str:
        return CANCELLED if group.name == "checkout-cqrs" else original(group, selection)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projections, "statement", cancelled)
        begin()
        settle()
    return DeadLetter.objects.get(consumer="checkout-cqrs", redriven_at=None)


def test_a_fold_whose_statement_never_succeeds_is_given_up() -> None:
    letter = letter_of_a_fold()
    assert types(letter.stream) == GOOD
    assert (letter.consumer, letter.type, letter.deliveries) == ("checkout-cqrs", "OrderCreated", 4)
    assert not OrdersByClient.objects.exists()


def total() -> int:
    """The orders of the usual client, as the read model tells."""
    return OrdersByClient.live.get(client_id=123).total_orders


def test_a_rebuild_misses_nothing_that_is_told_meanwhile() -> None:
    begin()
    settle()
    begin()
    relay_all()
    consume("choreo-reservation")
    relay_all()
    between: list[Thread] = []

    def order() -> None:
        try:
            consume("choreo-order")
        finally:
            connection.close()

    def after_the_first(run: Any, sql: str, given: Any, many: bool, context: Any) -> Any:
        """The second order is created once the first statement over a day is done."""
        done = run(sql, given, many, context)
        if not between and "since" in (given or ()):
            between.append(Thread(target=order))
            between[0].start()
            between[0].join()
        return done

    with connection.execute_wrapper(after_the_first):
        projections.rebuild("ordersbyclient")
    settle()
    assert (Order.objects.count(), total()) == (2, 2)


def test_a_rebuild_settles_the_letters_of_its_group() -> None:
    letter = letter_of_a_fold()
    projections.rebuild("ordersbyclient")
    assert total() == 1
    assert not deadletters.waiting().exists()
    assert deadletters.redrive(letter.pk, "tester") is False
    settle()
    assert total() == 1


def search() -> int:
    """What a relay that looks for lost events finds."""
    return sum(Relay(bus()).requeue(group, grace="0 seconds") for group in registry.groups.values())


@pytest.mark.usefixtures("old")
def test_a_redriven_event_that_redis_loses_is_found() -> None:
    letter = letter_of_a_fold()
    assert search() == 0  # and all checkpoints are behind the event now
    deadletters.redrive(letter.pk, "tester")
    relay_all()
    bus().client.flushall()
    relay_all()  # notices that
    settle()
    assert total() == 1


@pytest.mark.usefixtures("old")
def test_a_search_under_way_does_not_move_on_behind_a_redrive() -> None:
    letter = letter_of_a_fold()
    search()

    def blocked() -> bool:
        return execute("SELECT count(*) FROM pg_locks WHERE NOT granted") != [(0,)]

    def searching() -> None:
        try:
            search()
        finally:
            connection.close()

    upkeep = Thread(target=searching)
    with transaction.atomic():
        deadletters.redrive(letter.pk, "tester")
        upkeep.start()
        assert wait_until(blocked, 30)
    upkeep.join(30)
    relay_all()
    bus().client.flushall()
    relay_all()  # notices that
    settle()
    assert total() == 1


def test_a_record_that_never_succeeds_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    stream: UUID = begin()
    original = store.record

    def cancelled(group: Group, event: Event, facts: Sequence[Fact], key: bytes | None) -> Any:
        if [fact.type for fact in facts] == ["StockReserved"]:
            execute(CANCELLED)
        return original(group, event, facts, key)

    monkeypatch.setattr(store, "record", cancelled)
    settle()
    assert types(stream) == GIVEN_UP
    assert DeadLetter.objects.get().deliveries == 4
