"""Consumers and the engine's workers share what they know of a participant: its circuit and its limits."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pytest_django import Settings

from participants.orders.models import Order
from sagas import breaker
from sagas.breaker import Breaker
from sagas.choreography.bus import bus
from sagas.choreography.calling import Held, ParticipantCaller
from sagas.choreography.consumer import Consumer
from sagas.choreography.models import DeadLetter
from sagas.choreography.topics import Group, registry
from sagas.clock import clock
from sagas.conf import conf
from sagas.retail.services import inventory
from sagas.state import Done, Unknown
from tests.choreography import AT_ONCE, GOOD, begin, consume, event, relay_all, settle, types
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


def to_undo() -> UUID:
    """A checkout whose stock is to be released."""
    stream = begin(items=[{"product_id": 458, "quantity": 1}])
    for group in ("choreo-reservation", "choreo-order"):
        relay_all()
        consume(group)
    relay_all()
    return stream


def test_an_undoing_waits_for_its_participant_however_long_that_takes() -> None:
    stream = to_undo()
    for number in range(conf().breaker.failures):
        breaker.of("inventory").note(f"a-step-{number}", Unknown("no answer"))
    take_turns(8, registry.groups["choreo-compensation"])
    assert not DeadLetter.objects.exists()
    assert types(stream)[-1] == "OrderCreationFailed"
    breaker.reset("inventory")
    settle()
    assert types(stream)[-2:] == ["StockReleased", "CheckoutFailed"]
    assert_books_balance()


@pytest.mark.parametrize("kind", ["too_early", "error_after"])
def test_an_undoing_without_an_answer_spends_no_redelivery(kind: Any, settings: Settings) -> None:
    settings.SAGAS = settings.SAGAS | {"BREAKER": {"failures": 1000}}
    fault("inventory", "choreo-compensation", kind, times=8)
    stream = to_undo()
    take_turns(7, registry.groups["choreo-compensation"])
    assert not DeadLetter.objects.exists()
    assert types(stream)[-1] == "OrderCreationFailed"
    settle()
    assert types(stream)[-2:] == ["StockReleased", "CheckoutFailed"]
    assert not DeadLetter.objects.exists()
    assert_books_balance()


def test_an_undoing_whose_effect_stays_unknown_is_left_to_a_person(settings: Settings) -> None:
    settings.SAGAS = settings.SAGAS | {"BREAKER": {"failures": 1000}}
    settings.CHOREOGRAPHY = settings.CHOREOGRAPHY | {"UNDOING": timedelta(0)}
    fault("inventory", "choreo-compensation", "error_before", times=None)
    to_undo()
    take_turns(4, registry.groups["choreo-compensation"])
    letter = DeadLetter.objects.get()
    assert (letter.consumer, letter.deliveries) == ("choreo-compensation", 4)


def test_the_pauses_of_an_undoing_grow_with_the_age_of_its_event() -> None:
    fault("inventory", "choreo-compensation", "error_before", times=2)
    failed = event(to_undo(), "OrderCreationFailed")
    release = inventory.post("release-stock")
    pauses = []
    for age in (timedelta(seconds=8), timedelta(minutes=1)):
        caller = ParticipantCaller(replace(failed, time=clock.now() - age), "choreo-compensation")
        with pytest.raises(Held) as held:
            caller(release, undoes="of-a-test")
        pauses.append(held.value.wait)
    assert timedelta(seconds=2) <= pauses[0] < timedelta(seconds=15) <= pauses[1]


def test_a_limit_of_a_participant_counts_calls_of_consumers_too(settings: Settings) -> None:
    known = settings.SAGAS["PARTICIPANTS"]
    limited = {**known, "orders": known["orders"] | {"max_concurrent": 1}}
    settings.SAGAS = settings.SAGAS | {"PARTICIPANTS": limited}
    step = Breaker("orders")
    assert step.admit("a-step-under-way", timedelta(minutes=1), force=False) is None
    (stream,) = reserved(1)
    take_turns(8)
    assert types(stream) == GOOD[:2]
    assert not DeadLetter.objects.exists()
    step.note("a-step-under-way", Done({}))
    settle()
    assert types(stream) == GOOD
