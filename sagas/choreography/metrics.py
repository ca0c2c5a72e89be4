"""Prometheus metrics of the choreography, counted where things happen."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from sagas.choreography.events import Event
from sagas.choreography.topics import Facts, Group

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

PUBLISHED = Counter("events_published", "Events put on a stream", ["topic", "type"])
CONSUMED = Counter("events_consumed", "Events handled by a group", ["topic", "type", "consumer"])
LATENCY = Histogram(
    "event_latency_seconds", "From storing an event to its being handled", ["topic", "type"], buckets=BUCKETS
)
SUCCESS = Counter("saga_choreo_success", "Streams that ended well", ["source"])
FAILED = Counter("saga_choreo_failed", "Streams that ended badly", ["source"])
REPLAY = Histogram("event_replay_duration_seconds", "Replay of one stream", buckets=BUCKETS)
DEAD = Counter("event_dead_letters", "Events given up by a group", ["topic", "consumer"])
DEAD_WAITING = Gauge("event_dead_letters_waiting", "Dead letters not dealt with", multiprocess_mode="max")
WAITING = Gauge("event_outbox_waiting", "Events stored and not yet on a stream", multiprocess_mode="max")
LAG = Gauge("event_consumer_lag", "Events a group has still to handle", ["consumer"], multiprocess_mode="max")


def published(events: list[Event]) -> None:
    """These went to their streams."""
    for event in events:
        PUBLISHED.labels(event.topic, event.type).inc()


def consumed(group: Group, event: Event, seconds: float) -> None:
    """A group has handled an event, `seconds` after it was stored."""
    CONSUMED.labels(event.topic, event.type, group.name).inc()
    LATENCY.labels(event.topic, event.type).observe(max(seconds, 0.0))


def told(group: Group, facts: Facts) -> None:
    """A group's facts were stored; one of them may be an end."""
    for fact in facts:
        success = group.topic.ends.get(fact.type)
        if success is not None:
            (SUCCESS if success else FAILED).labels(group.topic.name).inc()
