"""Consumers and the engine's workers share what they know of a participant: its circuit and its limits."""

from datetime import timedelta
from uuid import UUID

import pytest
from pytest_django import Settings

from participants.orders.models import Order
from sagas import breaker
from sagas.breaker import Breaker
from sagas.choreography.bus import bus
from sagas.choreography.consumer import Consumer
from sagas.choreography.models import DeadLetter
from sagas.choreography.topics import Group, registry
from sagas.conf import conf
from sagas.state import Unknown
from tests.choreography import AT_ONCE, GOOD, begin, consume, relay_all, settle, types
from tests.retail import assert_books_balance, fault

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.usefixtures("shop", "brisk", "frail"),
]
CALL = timedelta(seconds=1)
ORDERS = registry.groups["choreo-order"]


@pytest.fixture
def frail(settings: Settings, shop: None) -> None:
    """Circuits that open after two failures, in a process that knows nothing yet."""
    settings.SAGAS = settings.SAGAS | {"BREAKER": {"failures": 2, "recovery": timedelta(minutes=5)}}
    breaker.of.cache_clear()


def reserved(count: int) -> list[UUID]:
    """Checkouts whose order is due."""
    streams = [begin() for _ in range(count)]
    relay_all()
    consume("choreo-reservation")
    relay_all()
    return streams


def take_turns(count: int, group: Group = ORDERS) -> None:
    """So many new consumers each look once for what there is to do, also for what others left."""
    for _ in range(count):
        Consumer(group, "of-a-test", bus()).turn(AT_ONCE)


def deliveries() -> list[int]:
    """How often each unacknowledged event of the group counts as delivered."""
    pending = bus().client.xpending_range(ORDERS.topic.name, ORDERS.name, min="-", max="+", count=100)
    return [entry["times_delivered"] for entry in pending]


def test_an_open_circuit_holds_events_back_and_spends_no_redelivery() -> None:
    worker = Breaker("orders")
    for number in range(conf().breaker.failures):
        worker.note(f"a-step-{number}", Unknown("no answer"))
    (stream,) = reserved(1)
    take_turns(8)  # twice as many as there are deliveries
    assert deliveries() == [0]
    assert not Order.objects.exists()
    assert not DeadLetter.objects.exists()
    breaker.reset("orders")
    settle()
    assert types(stream) == GOOD
    assert_books_balance()


def test_failures_of_consumers_open_the_circuit_for_workers() -> None:
    fault("orders", "choreo-order", "error_before", times=2)
    streams = reserved(2)
    take_turns(4)
    held = Breaker("orders").admit("a-step", CALL, force=False)
    assert held is not None
    assert held.circuit_open
    breaker.reset("orders")
    settle()
    assert [types(stream) for stream in streams] == [GOOD, GOOD]
    assert not DeadLetter.objects.exists()
    assert_books_balance()


def test_an_undoing_waits_for_its_participant_however_long_that_takes() -> None:
    stream = begin(items=[{"product_id": 458, "quantity": 1}])
    relay_all()
    consume("choreo-reservation")
    relay_all()
    consume("choreo-order")
    relay_all()
    for number in range(conf().breaker.failures):
        breaker.of("inventory").note(f"a-step-{number}", Unknown("no answer"))
    take_turns(8, registry.groups["choreo-compensation"])
    assert not DeadLetter.objects.exists()
    assert types(stream)[-1] == "OrderCreationFailed"
    breaker.reset("inventory")
    settle()
    assert types(stream)[-2:] == ["StockReleased", "CheckoutFailed"]
    assert_books_balance()


def test_a_limit_of_a_participant_counts_calls_of_consumers_too(settings: Settings) -> None:
    known = settings.SAGAS["PARTICIPANTS"]
    limited = {**known, "orders": known["orders"] | {"max_concurrent": 1}}
    settings.SAGAS = settings.SAGAS | {"PARTICIPANTS": limited}
    assert Breaker("orders").admit("a-step-under-way", timedelta(minutes=1), force=False) is None
    (stream,) = reserved(1)
    take_turns(8)
    assert types(stream) == GOOD[:2]
    assert not DeadLetter.objects.exists()
    breaker.reset("orders")
    settle()
    assert types(stream) == GOOD
