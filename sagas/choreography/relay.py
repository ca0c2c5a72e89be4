"""The relay: takes what stands in the outbox to the streams, in the order of the store, at least once.

One relay works at a time, whoever holds an advisory lock; others stand by. Killed between publishing
and deleting, it leaves rows that are published again, which the inboxes find out. Its upkeep tells
overdue streams so, finds events that Redis has lost, trims, and makes and drops partitions.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import redis
import structlog
from django.db import InterfaceError, OperationalError, connection

from sagas.choreography import deadletters, metrics, partitions, store
from sagas.choreography.bus import Bus
from sagas.choreography.conf import conf
from sagas.choreography.events import Event
from sagas.choreography.store import COLUMNS, event_of
from sagas.choreography.topics import Group, registry

log = structlog.get_logger(__name__)

LOCK = 7_306_081_250_319
BATCH = 500
WAIT = 0.25
GRACE = "2 seconds"
HORIZON = "60 seconds"
PARTITIONS_EVERY, PARTITIONS_AGAIN = 3600.0, 60.0
TAKE = f"""
SELECT {", ".join(f"e.{name.strip()}" for name in COLUMNS.split(","))}
  FROM (SELECT position, at FROM choreography_outbox ORDER BY position LIMIT %s) o
  JOIN choreography_event e ON e.position = o.position AND e.at = o.at
 ORDER BY e.position
"""  # noqa: S608  # a constant
# Events that a group has not handled, by the time of the first of them; a checkpoint is where every
# event before it was handled, short of the horizon within which a slow commit may still come. It is not
# moved on if a redrive has set it back since this statement began.
LOST = """
WITH checkpoint AS (
    SELECT at FROM choreography_checkpoint WHERE consumer = %(consumer)s
), lost AS (
    SELECT e.position, e.at FROM choreography_event e
     WHERE e.topic = %(topic)s AND e.type = ANY(%(types)s)
       AND e.at >= (SELECT at FROM checkpoint) AND e.at < clock_timestamp() - %(grace)s::interval
       AND NOT EXISTS (SELECT FROM choreography_inbox i WHERE i.at = e.at AND i.event_id = e.event_id
                        AND i.consumer = %(consumer)s)
     ORDER BY e.at LIMIT %(limit)s
), queued AS (
    INSERT INTO choreography_outbox (position, at) SELECT position, at FROM lost
    ON CONFLICT DO NOTHING RETURNING position
), moved AS (
    UPDATE choreography_checkpoint
       SET at = greatest(at, coalesce((SELECT min(at) FROM lost),
                                      clock_timestamp() - %(horizon)s::interval))
     WHERE consumer = %(consumer)s AND at = (SELECT at FROM checkpoint)
)
SELECT count(*) FROM queued
"""
# Where the search begins for groups that have no checkpoint. If no group of their topic has one, nobody
# knows what was handled, and it begins with the topic. A group that comes later listens from then on.
FIRST_CHECKPOINTS = """
INSERT INTO choreography_checkpoint (consumer, at)
SELECT name, least(
           clock_timestamp() - %(horizon)s::interval,
           CASE WHEN EXISTS (SELECT FROM choreography_checkpoint WHERE consumer = ANY(%(groups)s::varchar[]))
                THEN (SELECT min(at) FROM choreography_outbox)
                ELSE (SELECT at FROM choreography_event WHERE topic = %(topic)s ORDER BY at LIMIT 1) END)
  FROM unnest(%(groups)s::varchar[]) AS name
ON CONFLICT DO NOTHING
"""
SERVERS_AWAY = (OperationalError, InterfaceError, redis.RedisError)


class Relay:
    """One relay; call `turn` again and again in one thread, and `upkeep` in another."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self._holder: object = None
        self._partitions_at = 0.0

    # --- Publishing

    def turn(self, wait: float = WAIT) -> int:
        """Publish one batch; if there was nothing, wait for a ring. Returns how many events.

        Raises:
            OperationalError, InterfaceError, RedisError: a server is away; nothing is lost by it.
        """
        if not self._leads():
            time.sleep(wait)  # a ring is for the relay that leads
            return 0
        events = self._waiting()
        if not events:
            if not self.bus.marked():
                self.recover()
            self.bus.wait_for_ring(wait)
            return 0
        remembered = self.bus.publish(events)
        self._published(events)
        metrics.published(events)
        if not remembered:
            self.recover()
        return len(events)

    def _leads(self) -> bool:
        """Whether this connection holds the lock; the lock goes with the connection."""
        connection.ensure_connection()
        if self._holder is connection.connection:
            return True
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s::bigint)", [LOCK])
            if not cursor.fetchone()[0]:
                return False
        begin_checkpoints()  # before anything is published that could be lost
        self._holder = connection.connection
        log.info("this relay leads")
        return True

    def _waiting(self) -> list[Event]:
        with connection.cursor() as cursor:
            cursor.execute(TAKE, [BATCH])
            return [event_of(row) for row in cursor.fetchall()]

    def _published(self, events: list[Event]) -> None:
        positions = [event.position for event in events]
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM choreography_outbox WHERE position = ANY(%s::bigint[])", [positions])

    # --- After Redis has lost its memory

    def recover(self) -> int:
        """Publish again what any group has not handled; returns how many events that are."""
        self.bus.make_groups(registry.groups.values())
        self.bus.mark()
        count = sum(self.requeue(group, grace="0 seconds", limit=1_000_000) for group in all_groups())
        if count:
            log.warning("streams were lost, unhandled events are published again", events=count)
        return count

    def requeue(self, group: Group, grace: str = GRACE, limit: int = 10_000) -> int:
        """Put events that the group has not handled, older than `grace`, back into the outbox."""
        with connection.cursor() as cursor:
            cursor.execute(
                LOST,
                {
                    "consumer": group.name,
                    "topic": group.topic.name,
                    "types": list(group.types),
                    "grace": grace,
                    "horizon": HORIZON,
                    "limit": limit,
                },
            )
            return int(cursor.fetchone()[0])

    # --- Upkeep

    def upkeep(self) -> None:
        """What is to be done every second or so; two relays may do it at once.

        Raises:
            OperationalError, InterfaceError, RedisError: a server is away.
        """
        expire_overdue(self.bus)
        if time.monotonic() >= self._partitions_at:
            self._partitions_at = time.monotonic() + PARTITIONS_AGAIN
            partitions.maintain(conf().ahead, conf().retention)
            self._partitions_at = time.monotonic() + PARTITIONS_EVERY
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM choreography_outbox")
            metrics.WAITING.set(cursor.fetchone()[0])
        metrics.DEAD_WAITING.set(deadletters.waiting().count())
        # What is on its way to a group that is gone shows once there is one again.
        self.bus.make_groups(group for group in all_groups() if self.bus.missing(group))
        for group in all_groups():
            metrics.LAG.labels(group.name).set(self.bus.lag(group))
            if not self.bus.queued(group):
                self.requeue(group)  # nothing is on its way, so what is unhandled is lost
            self.bus.forget_dead_consumers(group)
        for topic in registry.topics.values():
            self.bus.trim(topic)


def begin_checkpoints() -> None:
    """Make the checkpoints of groups that have none."""
    with connection.cursor() as cursor:
        for topic in registry.topics.values():
            given: dict[str, Any] = {"groups": list(topic.groups), "topic": topic.name, "horizon": HORIZON}
            cursor.execute(FIRST_CHECKPOINTS, given)


def expire_overdue(bus: Bus) -> int:
    """Tell every stream so that has waited too long for its next event; returns how many."""
    count = 0
    for topic in registry.topics.values():
        for stream in store.overdue(topic):
            first = store.history(stream)[0]
            if store.expire(topic, first, store.key_of_client(first.client)):
                log.warning("stream timed out", topic=topic.name, stream=str(stream))
                count += 1
    if count:
        bus.ring()
    return count


def all_groups() -> list[Group]:
    """Every group that is installed."""
    return list(registry.groups.values())


def upkeep_period() -> timedelta:
    """How often upkeep is due."""
    return conf().upkeep
