"""Redis Streams as transport: publish, read, claim what dead consumers left, acknowledge, trim.

Nothing here is needed for correctness. One stream a topic, one consumer group a group; groups are
made again when they are gone. An entry has the event's type beside its CloudEvent, so that whoever
is not interested need not read it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import orjson
import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from sagas.choreography.conf import conf
from sagas.choreography.events import Event, cloudevent
from sagas.choreography.topics import Group, Topic

log = structlog.get_logger(__name__)

BELL = "choreography:bell"
MARKER = "choreography:marker"
FIELD, TYPE, REASON = b"event", b"type", b"reason"
AWAY_FOR = 2.0
IDLE_CONSUMER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Entry:
    """One delivery: where it lies on the stream, what it is, and how often it was delivered."""

    id: str
    type: str
    content: bytes
    deliveries: int = 1


class Bus:
    """The streams of one Redis."""

    def __init__(self, client: redis.Redis) -> None:
        self.client: Any = client
        self._away_until = 0.0

    # --- Publishing

    def publish(self, events: Sequence[Event]) -> bool:
        """Put events on the streams of their topics, in order; False if Redis had lost its memory before.

        The marker is there as long as nobody has flushed Redis; it is put back by `mark`.
        """
        pipeline = self.client.pipeline(transaction=False)
        pipeline.exists(MARKER)
        for event in events:
            pipeline.xadd(event.topic, {TYPE: event.type, FIELD: orjson.dumps(cloudevent(event))})
        return bool(pipeline.execute()[0])

    def marked(self) -> bool:
        """Whether Redis still has its memory."""
        return bool(self.client.exists(MARKER))

    def mark(self) -> None:
        """Remember that everything lost so far is being published again."""
        self.client.set(MARKER, "1")

    def ring(self) -> None:
        """Wake the relay; without it, it looks by itself a moment later."""
        if time.monotonic() < self._away_until:
            return
        try:
            pipeline = self.client.pipeline(transaction=False)
            pipeline.lpush(BELL, "1").ltrim(BELL, 0, 0).execute()
        except redis.RedisError as error:
            self._away_until = time.monotonic() + AWAY_FOR
            log.warning("the relay cannot be woken", error=str(error))

    def wait_for_ring(self, seconds: float) -> None:
        """Return when somebody rang, or after `seconds`; at once for 0."""
        if seconds > 0:
            self.client.blpop([BELL], timeout=seconds)

    # --- Consuming

    def read(self, group: Group, consumer: str, count: int, wait: timedelta) -> list[Entry]:
        """New entries for this consumer; [] if none came within `wait`, which may be none."""
        answer = self._of_group(
            group,
            lambda: self.client.xreadgroup(
                group.name,
                consumer,
                {group.topic.name: ">"},
                count=count,
                block=milliseconds(wait) or None,
            ),
        )
        return [_entry(*one) for one in _entries(answer)]

    def claim(self, group: Group, consumer: str, count: int) -> list[Entry]:
        """Entries that were delivered and never acknowledged in time, now this consumer's.

        The cursor goes to the end, whatever lies deleted in between.
        """
        found: list[tuple[bytes, dict[bytes, bytes]]] = []
        cursor: Any = "0-0"
        while len(found) < count:
            cursor, entries, *_ = self._of_group(
                group,
                lambda start=cursor: self.client.xautoclaim(
                    group.topic.name,
                    group.name,
                    consumer,
                    min_idle_time=milliseconds(conf().claim_after),
                    start_id=start,
                    count=count,
                ),
            )
            found += [(id, fields) for id, fields in entries if fields]
            if cursor in (b"0-0", "0-0"):
                break
        return self._counted(group, consumer, found)

    def acknowledge(self, group: Group, ids: Sequence[str]) -> None:
        """The group is done with these."""
        if ids:
            self.client.xack(group.topic.name, group.name, *ids)

    def put_off(
        self, group: Group, consumer: str, entries: Iterable[Entry], pause: timedelta, *, counts: bool
    ) -> None:
        """Have entries delivered again after `pause`, to whoever claims them first.

        Unless this delivery `counts`, the next one is told to be as many as this one. What is
        acknowledged already stays so.
        """
        idle = max(milliseconds(conf().claim_after - pause), 0)
        pipeline = self.client.pipeline(transaction=False)
        for entry in entries:
            pipeline.xclaim(
                group.topic.name,
                group.name,
                consumer,
                min_idle_time=0,
                message_ids=[entry.id],
                idle=idle,
                retrycount=entry.deliveries if counts else entry.deliveries - 1,
                justid=True,
            )
        pipeline.execute()

    def hold(self, group: Group, consumer: str, ids: Sequence[str]) -> None:
        """Go on holding entries that wait for their turn here."""
        if ids:
            self.client.xclaim(
                group.topic.name, group.name, consumer, min_idle_time=0, message_ids=list(ids), justid=True
            )

    def bury(self, group: Group, entry: Entry, reason: str) -> None:
        """Copy an entry to the dead-letter stream."""
        fields = {TYPE: entry.type, FIELD: entry.content, b"consumer": group.name, REASON: reason[:500]}
        self.client.xadd(group.topic.dead_letters, fields, maxlen=10_000, approximate=True)

    # --- Upkeep

    def missing(self, group: Group) -> bool:
        """Whether Redis does not know the group, or its stream."""
        return group.name not in self._states(group.topic)

    def queued(self, group: Group) -> bool:
        """Whether anything on the stream is still undelivered to the group, or unacknowledged."""
        state = self._states(group.topic).get(group.name)
        if state is None:
            return False
        try:
            newest = self.client.xinfo_stream(group.topic.name)["last-generated-id"]
        except redis.ResponseError:
            return False
        return bool(state["pending"]) or state["last-delivered-id"] != newest

    def trim(self, topic: Topic) -> int:
        """Drop what every group has acknowledged; nothing as long as a group is missing."""
        states = self._states(topic)
        if not topic.groups or set(topic.groups) - set(states):
            return 0
        behind = [self._oldest_needed(topic, name, states[name]) for name in topic.groups]
        return int(self.client.xtrim(topic.name, minid=min(behind, key=_order), approximate=True))

    def forget_dead_consumers(self, group: Group) -> None:
        """Delete consumers that hold nothing and have not been seen for long."""
        try:
            consumers = self.client.xinfo_consumers(group.topic.name, group.name)
        except redis.ResponseError:
            return
        for one in consumers:
            if not one["pending"] and one["idle"] > milliseconds(IDLE_CONSUMER):
                self.client.xgroup_delconsumer(group.topic.name, group.name, one["name"])

    def lag(self, group: Group) -> int:
        """How many entries the group has still to take or to acknowledge."""
        state = self._states(group.topic).get(group.name)
        return 0 if state is None else int(state["pending"]) + int(state.get("lag") or 0)

    def make_groups(self, groups: Iterable[Group]) -> None:
        """Make the groups that are missing, each from the beginning of its stream."""
        for group in groups:
            try:
                self.client.xgroup_create(group.topic.name, group.name, id="0", mkstream=True)
            except redis.ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    # --- Inside

    def _of_group(self, group: Group, command: Any) -> Any:
        try:
            return command()
        except redis.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            log.info("consumer group is missing, made", consumer=group.name)
            self.make_groups([group])
            return command()

    def _counted(
        self, group: Group, consumer: str, found: Sequence[tuple[bytes, dict[bytes, bytes]]]
    ) -> list[Entry]:
        pipeline = self.client.pipeline(transaction=False)
        for id, _ in found:
            pipeline.xpending_range(group.topic.name, group.name, min=id, max=id, count=1)
        counts = [answer[0]["times_delivered"] if answer else 1 for answer in pipeline.execute()]
        return [_entry(id, fields, count) for (id, fields), count in zip(found, counts, strict=True)]

    def _states(self, topic: Topic) -> dict[str, dict[str, Any]]:
        try:
            found = self.client.xinfo_groups(topic.name)
        except redis.ResponseError:  # there is no stream
            return {}
        return {one["name"].decode(): one for one in found}

    def _oldest_needed(self, topic: Topic, name: str, state: dict[str, Any]) -> str:
        if state["pending"]:
            oldest = self.client.xpending(topic.name, name)["min"]
            if oldest is not None:
                return str(oldest.decode())
        return str(state["last-delivered-id"].decode())


def _entries(answer: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The entries of XREADGROUP's answer, in either version of the protocol."""
    if not answer:
        return []
    if isinstance(answer, dict):
        found = next(iter(answer.values()))
        return list(found[0]) if found and isinstance(found[0], list) else list(found)
    return list(answer[0][1])


def _entry(id: bytes, fields: dict[bytes, bytes] | None, deliveries: int = 1) -> Entry:
    fields = fields or {}
    return Entry(
        id.decode(), fields.get(TYPE, b"").decode(errors="replace"), fields.get(FIELD, b""), deliveries
    )


def _order(id: str) -> tuple[int, int]:
    head, _, tail = id.partition("-")
    return int(head), int(tail or 0)


def milliseconds(duration: timedelta) -> int:
    """A duration as Redis counts it."""
    return int(duration.total_seconds() * 1000)


@cache
def bell() -> Bus:
    """To ring with where somebody waits for an answer, whom a silent Redis may hold up for a moment only."""
    client = redis.Redis.from_url(
        conf().redis_url,
        socket_connect_timeout=0.5,
        socket_timeout=0.5,
        retry=Retry(NoBackoff(), 0),
    )
    return Bus(client)


@cache
def bus() -> Bus:
    """The one bus of this process; its sockets outlast the longest blocking read."""
    client = redis.Redis.from_url(
        conf().redis_url,
        socket_connect_timeout=2,
        socket_timeout=10,
        socket_keepalive=True,
        health_check_interval=30,
    )
    return Bus(client)
