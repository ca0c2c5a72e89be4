"""A choreography driven by hand: every process's work is done in turn, in this thread, until all is quiet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection

from sagas.choreography import store
from sagas.choreography.bus import bus
from sagas.choreography.consumer import Consumer
from sagas.choreography.events import Event
from sagas.choreography.models import Stream
from sagas.choreography.relay import Relay
from sagas.choreography.topics import Group, Topic, registry
from sagas.retail.choreography.checkout import checkout

BASKET = [{"product_id": 456, "quantity": 2}]
AT_ONCE = timedelta(0)
ROUNDS = 60
GOOD = ["CheckoutInitiated", "StockReserved", "OrderCreated", "CheckoutSucceeded"]


def begin(topic: Topic = checkout, **changes: Any) -> UUID:
    """A new checkout of the usual basket."""
    data = {"client_id": 123, "store_id": 1, "items": BASKET, **changes}
    return store.begin(topic, data, correlation_id="of-a-test").stream


def relay_all() -> int:
    """A new relay publishes all there is."""
    relay, count = Relay(bus()), 0
    while published := relay.turn(wait=0):
        count += published
    return count


def consume(*groups: str) -> int:
    """New consumers of these groups, or of all, handle what there is; tells how many entries."""
    chosen = [registry.groups[name] for name in groups] or list(registry.groups.values())
    return sum(consume_one(group) for group in chosen)


def consume_one(group: Group) -> int:
    """One new consumer handles what there is."""
    consumer, count = Consumer(group, "of-a-test", bus()), 0
    while handled := consumer.turn(AT_ONCE):
        count += handled
    return count


def settle(topic: Topic = checkout) -> None:
    """Go on until every stream of the topic has ended and nothing is under way."""
    for _ in range(ROUNDS):
        moved = relay_all() + consume()
        if not moved and not Stream.objects.filter(topic=topic.name, ended_at=None).exists():
            return
    raise AssertionError(f"not at rest after {ROUNDS} rounds: {list(Stream.objects.filter(ended_at=None))}")


def types(stream: UUID) -> list[str]:
    """What happened, in order."""
    return [event.type for event in store.history(stream)]


def event(stream: UUID, type: str) -> Event:
    """The event of that type."""
    return next(one for one in store.history(stream) if one.type == type)


def execute(statement: str, *values: Any) -> Sequence[Any]:
    """One statement; its rows, if it has any."""
    with connection.cursor() as cursor:
        cursor.execute(statement, list(values))
        return cursor.fetchall() if cursor.description else []
