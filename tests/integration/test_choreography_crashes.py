"""A process is lost at every point of a checkout's way; another goes on, and nothing shows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from pytest_django import Settings

from participants.catalogue.models import Product
from participants.orders.models import Order
from sagas import remote
from sagas.choreography import consumer, deadletters, partitions, projections, relay, store
from sagas.choreography.bus import BELL, Bus, bus
from sagas.choreography.events import cloudevent
from sagas.choreography.models import AuditEntry, DeadLetter, OrdersByClient, Outbox, StoredEvent, Stream
from sagas.choreography.relay import Relay
from sagas.choreography.topics import registry
from sagas.state import Refused
from tests.choreography import GOOD, begin, consume, execute, relay_all, settle, types
from tests.retail import assert_books_balance, change, fault, figures

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.usefixtures("shop", "brisk"),
]
BAD = ["CheckoutInitiated", "StockReserved", "OrderCreationFailed", "StockReleased", "CheckoutFailed"]
TOPIC = "ecommerce.checkout.events"


class Lost(BaseException):
    """The process is gone; nothing catches this."""


@contextmanager
def lost(owner: Any, name: str, when: str, nth: int) -> Iterator[Callable[[], int]]:
    """Lose the process before or after the nth call of a function; yields how often it was called."""
    original, calls = getattr(owner, name), 0

    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth and when == "before":
            raise Lost
        result = original(*args, **kwargs)
        if calls == nth and when == "after":
            raise Lost
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, dying)
        yield lambda: calls


def settle_with_losses() -> int:
    """Go on until the end, with new processes for lost ones; tells how many were lost."""
    for losses in range(10):
        try:
            settle()
        except Lost:
            continue
        return losses
    raise AssertionError("lost too often")


POINTS = {
    "relay, publish": (Bus, "publish"),
    "relay, mark as published": (Relay, "_published"),
    "consumer, read": (Bus, "read"),
    "consumer, look": (store, "look"),
    "consumer, call": (remote, "perform"),
    "consumer, record": (store, "record"),
    "consumer, fold": (projections, "apply"),
    "consumer, acknowledge": (Bus, "acknowledge"),
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", POINTS)
def test_a_process_lost_at_any_point(point: str, when: str, settings: Settings) -> None:
    settings.CHOREOGRAPHY = settings.CHOREOGRAPHY | {"REDELIVERIES": 10}
    nth, struck = 0, True
    while struck and nth < 8:
        nth += 1
        before = figures()
        with lost(*POINTS[point], when, nth) as calls:
            good, bad = begin(), begin(items=[{"product_id": 458, "quantity": 1}])
            struck = settle_with_losses() > 0
            assert struck == (calls() >= nth)
        assert (types(good), types(bad)) == (GOOD, BAD), nth
        assert change(before, figures()) == {"reserved 1/456": 2, "orders": 1, "messages": 2}, nth
    assert_books_balance()
    assert not DeadLetter.objects.exists()
    assert AuditEntry.objects.count() == StoredEvent.objects.count()
    assert OrdersByClient.live.get().total_orders == nth


@pytest.mark.parametrize("after", range(1, 7))
def test_redis_forgets_at_any_moment(after: int) -> None:
    good, bad = begin(), begin(items=[{"product_id": 458, "quantity": 1}])
    for number in range(1, 8):
        relay_all()
        if number == after:
            bus().client.flushall()
        consume()
    settle()
    assert (types(good), types(bad)) == (GOOD, BAD)
    assert_books_balance()
    assert AuditEntry.objects.count() == 9


def test_what_is_lost_without_a_trace_is_found_by_upkeep() -> None:
    stream = begin()
    relay_all()
    consume("choreo-reservation")
    relay_all()
    execute("UPDATE choreography_checkpoint SET at = now() - interval '1 hour'")
    newest = bus().client.xrevrange(TOPIC, count=1)[0][0]
    bus().client.xdel(TOPIC, newest)  # StockReserved, before anybody but this test has seen it
    consume()
    assert types(stream) == GOOD[:2]
    again = Relay(bus())
    assert again.requeue(registry.groups["choreo-order"], grace="0 seconds") == 1
    settle()
    assert types(stream) == GOOD


def test_a_relay_stands_by_and_takes_over() -> None:
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s::bigint)", [relay.LOCK])
        begin()
        standing_by = Relay(bus())
        bus().ring()
        assert standing_by.turn(0.01) == 0
        assert Outbox.objects.count() == 1
        assert bus().client.llen(BELL) == 1  # for the one that leads
    finally:
        other.close()
    while not standing_by.turn(0):  # the server notices the end of a connection in its own time
        pass
    settle()


def test_a_stream_is_trimmed_behind_all_groups_and_no_further() -> None:
    for _ in range(40):
        begin()
    relay_all()
    assert bus().trim(registry.topics[TOPIC]) == 0
    settle()
    assert all(not bus().queued(group) for group in registry.groups.values() if group.topic.name == TOPIC)
    length = bus().client.xlen(TOPIC)
    bus().trim(registry.topics[TOPIC])
    assert bus().client.xlen(TOPIC) <= length
    begin()
    relay_all()
    consume("choreo-audit")
    newest = bus().client.xrevrange(TOPIC, count=1)[0][0]
    bus().client.xtrim(TOPIC, minid=newest)
    bus().trim(registry.topics[TOPIC])
    assert bus().client.xlen(TOPIC) == 1
    settle()


def test_poison_goes_to_the_dead_letters_and_nobody_waits_for_it() -> None:
    client = bus().client
    for fields in ({"junk": "1"}, {"type": "CheckoutInitiated", "event": "{"}, {"type": "OrderCreated"}):
        client.xadd(TOPIC, fields)
    client.xadd(TOPIC, {"type": "CheckoutInitiated", "event": b"{" + b"1" * 1_000_000})
    stream = begin()
    settle()
    assert types(stream) == GOOD
    assert client.xlen(f"{TOPIC}.dead") > 0


def test_an_event_that_could_not_be_stored_is_no_event() -> None:
    stream = begin()
    (begun,) = store.history(stream)
    other = cloudevent(replace(begun, topic="ecommerce.order.events"))
    for envelope in ({**cloudevent(begun), "position": 2**63}, other):
        bus().client.xadd(TOPIC, {"type": begun.type, "event": orjson.dumps(envelope)})
    settle()
    assert types(stream) == GOOD
    buried = bus().client.xrange(f"{TOPIC}.dead")
    groups = [name for name, group in registry.groups.items() if group.topic.name == TOPIC]
    listening = [name for name in groups if begun.type in registry.groups[name].types]
    assert len(buried) == 2 * len(listening)
    assert not DeadLetter.objects.exists()


@pytest.mark.parametrize("group", ["choreo-reservation", "choreo-compensation"])
def test_what_a_participant_says_cannot_stop_a_consumer(group: str) -> None:
    original = remote.perform

    def perform(request: Any, envelope: Any, now: Any) -> Any:
        if envelope.step == group:
            return Refused("a\0b", "c\0d")
        return original(request, envelope, now)

    stream = begin(items=[{"product_id": 458, "quantity": 1}])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "perform", perform)
        for _ in range(8):
            relay_all()
            consume()
    if group == "choreo-reservation":
        assert types(stream) == ["CheckoutInitiated", "StockReservationFailed", "CheckoutFailed"]
        told = store.history(stream)[1].data
        assert (told["code"], told["reason"]) == ("a b", "c d")
    else:
        assert "a b, c d" in DeadLetter.objects.get().reason


def test_what_cannot_even_be_given_up_leaves_a_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    original = store.record

    def nothing_told(group: Any, event: Any, facts: Any, key: Any) -> Any:
        if facts:
            raise ValueError("cannot be stored")
        return original(group, event, facts, key)

    monkeypatch.setattr(store, "record", nothing_told)
    begin()
    relay_all()
    for _ in range(6):
        consume("choreo-reservation")
    letter = DeadLetter.objects.get()
    assert (letter.reason, letter.deliveries) == (consumer.UNTOLD, 4)


def test_one_bad_event_does_not_hold_up_a_fold() -> None:
    good = begin()
    relay_all()
    original = projections.apply

    def picky(group: Any, events: Any) -> Any:
        if group.name == "choreo-audit" and any(event.type == "OrderCreated" for event in events):
            raise ValueError("cannot fold this")
        return original(group, events)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projections, "apply", picky)
        settle()
    assert types(good) == GOOD
    letter = DeadLetter.objects.get()
    assert (letter.consumer, letter.type) == ("choreo-audit", "OrderCreated")
    deadletters.redrive(letter.pk, "tester")
    settle()
    assert AuditEntry.objects.count() == 4


def test_the_database_away_for_long_is_no_failure_of_the_event() -> None:
    stream = begin()
    relay_all()
    with pytest.MonkeyPatch.context() as patch:

        def away(*_: Any) -> Any:
            raise OperationalError("gone")

        patch.setattr(store, "record", away)
        for _ in range(6):  # more often than an event is delivered
            with pytest.raises(OperationalError):
                consume("choreo-reservation")
    settle()
    assert types(stream) == GOOD
    assert not DeadLetter.objects.exists()
    assert_books_balance()


@pytest.mark.parametrize("table", ["choreography_event", "choreography_auditentry"])
@pytest.mark.parametrize("change", ["UPDATE {} SET type = 'x'", "DELETE FROM {}", "TRUNCATE {}"])
def test_what_has_happened_is_never_changed(table: str, change: str) -> None:
    begin()
    settle()
    day = partitions.existing(table)[1].name
    for name in (table, f"{table}_{execute('SELECT to_char(now(), %s)', 'YYYYMMDD')[0][0]}", day):
        if change.startswith("TRUNCATE") or name != day:
            with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
                execute(change.format(name))


def test_old_days_are_dropped_and_new_ones_made() -> None:
    begin()
    settle()
    now = datetime.now(UTC)
    made, dropped = partitions.maintain(timedelta(days=30), timedelta(days=90))
    assert (made > 0, dropped) == (True, [])
    execute("SELECT choreography_make_partitions('2026-01-01'::date, '2026-01-02'::date)")
    assert len(partitions.maintain(timedelta(days=14), timedelta(days=30))[1]) == 6
    with transaction.atomic():
        later = now + timedelta(days=60)
        _, dropped = partitions.maintain(timedelta(days=1), timedelta(days=30), later)
        assert any(name.startswith("choreography_event_") for name in dropped)
        assert not StoredEvent.objects.exists()
        assert not Stream.objects.exists()
        transaction.set_rollback(True)
    assert StoredEvent.objects.count() == 4


def test_a_price_that_changes_between_two_deliveries_does_not_count() -> None:
    fault("orders", "choreo-order", "error_after")
    stream = begin()
    relay_all()
    consume("choreo-reservation")
    relay_all()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bus, "claim", lambda *_: [])
        consume("choreo-order")
    Product.objects.filter(pk=456).update(price="31.00")
    settle()
    created = next(one for one in store.history(stream) if one.type == "OrderCreated")
    assert created.data["amount"] == "59.98" == str(Order.objects.get().amount)
