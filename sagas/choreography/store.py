"""The event store: the only writer of streams, events, inbox and outbox. Every append is one statement.

An append locks the stream's row first and draws positions after that, so that within a stream the
order of positions is that of commits. It takes effect only if the group has not handled the cause
before, and only if the stream is open, or what is told follows from the event that closed it. The
times of a stream's events never go back, whatever the clock does: its row says where they lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from django.db import connection, transaction
from uuid_utils.compat import uuid7

from sagas.choreography import keys, sealing
from sagas.choreography.conf import conf
from sagas.choreography.events import Event, Fact, cleaned, following_id
from sagas.choreography.topics import Group, Topic, registry
from sagas.errors import IdempotencyConflict

COLUMNS = (
    "position, at, event_id, topic, stream, version, type, schema_version, source,"
    " correlation_id, causation_id, client, sealed, data"
)
HANDLED_ONCE = """
    INSERT INTO choreography_inbox (at, event_id, consumer)
    VALUES (%(at)s, %(cause)s, %(consumer)s) ON CONFLICT DO NOTHING RETURNING consumer"""
ALWAYS = "SELECT %(consumer)s::text AS consumer"
OPEN = "(s.closed_by IS NULL OR s.closed_by = %(cause)s)"
OVERDUE = "s.closed_by IS NULL AND s.deadline_at <= clock_timestamp()"
APPEND = """
WITH fresh AS ({fresh}), stream AS (
    UPDATE choreography_stream s
       SET version = s.version + %(count)s,
           status = CASE WHEN s.ended_at IS NULL THEN %(status)s ELSE s.status END,
           succeeded = coalesce(s.succeeded, %(succeeded)s::boolean),
           closed_by = coalesce(%(closed_by)s::uuid, s.closed_by),
           ended_at = coalesce(s.ended_at, CASE WHEN %(ended)s THEN clock_timestamp() END),
           deadline_at = CASE WHEN %(closed_by)s::uuid IS NULL AND s.closed_by IS NULL
                              THEN clock_timestamp() + %(timeout)s::interval END,
           updated_at = greatest(s.updated_at, clock_timestamp())
      FROM fresh
     WHERE s.id = %(stream)s AND %(count)s > 0 AND {guard}
    RETURNING s.version - %(count)s AS before, s.client, s.correlation_id, s.updated_at, s.topic
), stored AS (
    INSERT INTO choreography_event (at, event_id, topic, stream, version, type, schema_version, source,
                                    correlation_id, causation_id, client, sealed, data)
    SELECT stream.updated_at, told.id, stream.topic, %(stream)s, stream.before + told.n, told.type,
           told.schema, %(consumer)s, stream.correlation_id, %(cause)s, stream.client,
           told.sealed, told.data::jsonb
      FROM stream, unnest(%(ids)s::uuid[], %(types)s::text[], %(schemas)s::smallint[], %(sealed)s::text[],
                          %(data)s::text[]) WITH ORDINALITY AS told (id, type, schema, sealed, data, n)
     ORDER BY told.n
    RETURNING position, at
), queued AS (
    INSERT INTO choreography_outbox (position, at) SELECT position, at FROM stored
)
SELECT (SELECT count(*) FROM fresh), (SELECT count(*) FROM stored)
"""
REACT = APPEND.format(fresh=HANDLED_ONCE, guard=OPEN)
EXPIRE = APPEND.format(fresh=ALWAYS, guard=OVERDUE)
BEGIN = """
WITH stream AS (
    INSERT INTO choreography_stream (id, topic, version, status, client, owner_id, correlation_id,
                                     created_at, updated_at, deadline_at)
    SELECT %(stream)s, %(topic)s, 1, %(status)s, %(client)s, %(owner)s, %(correlation)s,
           at, at, at + %(timeout)s::interval FROM clock_timestamp() AS at
    ON CONFLICT (id) DO NOTHING RETURNING created_at
), stored AS (
    INSERT INTO choreography_event (at, event_id, topic, stream, version, type, schema_version, source,
                                    correlation_id, client, sealed, data)
    SELECT created_at, %(stream)s, %(topic)s, %(stream)s, 1, %(type)s, %(schema)s, 'start',
           %(correlation)s, %(client)s, %(sealed)s, %(data)s::jsonb FROM stream
    RETURNING position, at
)
INSERT INTO choreography_outbox (position, at) SELECT position, at FROM stored RETURNING position
"""
EXTENT = """
SELECT s.created_at, s.updated_at, k.key
  FROM choreography_stream s LEFT JOIN choreography_clientkey k ON k.id = s.client WHERE s.id = %s
"""
HISTORY = f"""
SELECT {COLUMNS} FROM choreography_event WHERE stream = %s AND at BETWEEN %s AND %s ORDER BY version
"""  # noqa: S608  # a constant
LOOK = """
SELECT EXISTS (SELECT FROM choreography_inbox
                WHERE at = %s AND event_id = %s AND consumer = %s),
       (SELECT key FROM choreography_clientkey WHERE id = %s)
"""
# Shared, so that starts of one client do not wait for one another, but an anonymisation does.
KEY = "SELECT id, key FROM choreography_clientkey WHERE client_id = %s FOR SHARE"
KEYS_OF_CLIENTS = "SELECT id, key FROM choreography_clientkey WHERE id = ANY(%s::uuid[]) AND key IS NOT NULL"
NEW_KEY = """
INSERT INTO choreography_clientkey (id, client_id, key) VALUES (%s, %s, %s)
ON CONFLICT (client_id) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a record did: whether the group handled the event for the first time, and what was told."""

    fresh: bool
    facts: Sequence[Fact]


@dataclass(frozen=True, slots=True)
class Begun:
    """A stream, new or begun before under the same id."""

    stream: UUID
    repeated: bool


# --- Writing ------------------------------------------------------------------------------------------


def begin(
    topic: Topic,
    data: Mapping[str, Any],
    *,
    correlation_id: str,
    owner_id: int | None = None,
    stream: UUID | None = None,
) -> Begun:
    """Store the first event of a stream; `data` is the topic's input as JSON types.

    Raises:
        IdempotencyConflict: there is a stream of that id with other data.
    """
    stream = stream or uuid7()
    told = {topic.id_field: str(stream), **data}
    with transaction.atomic(), connection.cursor() as cursor:
        client, key = client_key(data[topic.client_field])
        plain, personal = sealing.split(told, topic.personal)
        values: dict[str, Any] = {
            "stream": stream,
            "topic": topic.name,
            "type": topic.first,
            "status": topic.statuses[topic.first],
            "schema": topic.schema_of(topic.first),
            "client": client,
            "owner": owner_id,
            "correlation": correlation_id,
            "timeout": timeout_of(topic),
            "sealed": sealing.seal(personal, key),
            "data": orjson.dumps(plain).decode(),
        }
        cursor.execute(BEGIN, values)
        new = cursor.fetchone() is not None
    if not new and dict(history(stream)[0].data) != told:
        raise IdempotencyConflict("the idempotency key was used before with another request")
    return Begun(stream, repeated=not new)


def client_key(client_id: int) -> tuple[UUID, bytes]:
    """Pseudonym and key of a client, made if there are none; held until the transaction ends.

    Raises:
        WrongKey: the settings do not open the key, or cannot wrap a new one.
    """
    with connection.cursor() as cursor:
        while True:
            cursor.execute(KEY, [client_id])
            row = cursor.fetchone()
            if row is not None:
                return row[0], keys.unwrap(bytes(row[1]))
            cursor.execute(NEW_KEY, [uuid7(), client_id, keys.wrap(sealing.new_key())])


def record(group: Group, event: Event, facts: Sequence[Fact], key: bytes | None = None) -> Recorded:
    """The group has handled the event: inbox row and facts in one statement.

    Facts that come too late, after the stream was closed by something else, are not told.
    """
    with connection.cursor() as cursor:
        cursor.execute(REACT, _told(group.name, group.topic, event, facts, key))
        fresh, stored = cursor.fetchone()
    return Recorded(bool(fresh), facts if stored else ())


def expire(topic: Topic, first: Event, key: bytes | None) -> bool:
    """Tell that a stream waited too long for its next event; False if it did not."""
    facts = [Fact(topic.timed_out, {"reason": "no next event in time", "code": "timed_out"})]
    with connection.cursor() as cursor:
        cursor.execute(EXPIRE, _told("timeouts", topic, first, facts, key))
        return bool(cursor.fetchone()[1])


def end(stream: UUID) -> bool:
    """End a stream that was closed without an end, such as one whose undoing was given up; else False."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE choreography_stream SET ended_at = clock_timestamp(), succeeded = false"
            " WHERE id = %s AND ended_at IS NULL AND closed_by IS NOT NULL",
            [stream],
        )
        return bool(cursor.rowcount)


def overdue(topic: Topic, limit: int = 100) -> list[UUID]:
    """Streams that have waited too long for their next event."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM choreography_stream WHERE topic = %s AND closed_by IS NULL"
            " AND deadline_at <= clock_timestamp() ORDER BY deadline_at LIMIT %s",
            [topic.name, limit],
        )
        return [row[0] for row in cursor.fetchall()]


def _told(
    source: str, topic: Topic, event: Event, facts: Sequence[Fact], key: bytes | None
) -> dict[str, Any]:
    ids = [following_id(event.id, source, fact.type) for fact in facts]
    parts = [_stored(topic, event, fact, key) for fact in facts]
    closing = [
        index for index, fact in enumerate(facts) if fact.type in topic.ends or fact.type == topic.timed_out
    ]
    last = facts[-1].type if facts else ""
    ended = [fact.type for fact in facts if fact.type in topic.ends]
    return {
        "at": event.time,
        "cause": event.id,
        "consumer": source,
        "stream": event.stream,
        "count": len(facts),
        "status": topic.statuses[ended[0] if ended else last] if facts else "",
        "succeeded": topic.ends[ended[0]] if ended else None,
        "ended": bool(ended),
        "closed_by": ids[closing[-1]] if closing else None,
        "timeout": timeout_of(topic),
        "ids": ids,
        "types": [fact.type for fact in facts],
        "schemas": [topic.schema_of(fact.type) for fact in facts],
        "sealed": [sealed for sealed, _ in parts],
        "data": [data for _, data in parts],
    }


def _stored(topic: Topic, event: Event, fact: Fact, key: bytes | None) -> tuple[str, str]:
    """Sealed and plain data of a fact, which carries the ids that its cause carries.

    With the key destroyed, nothing personal is told any more.
    """
    plain, personal = sealing.split(cleaned(fact.data), topic.personal)
    sealed = event.sealed
    if personal and key is not None:
        known = sealing.readable(event, key).data
        inherited = {name: known[name] for name in (topic.client_field,) if name in known}
        sealed = sealing.seal({**inherited, **personal}, key)
    return sealed, orjson.dumps({topic.id_field: str(event.stream), **plain}).decode()


def timeout_of(topic: Topic) -> timedelta:
    """How long a stream of the topic may wait for its next event."""
    return conf().timeout or topic.timeout


# --- Reading ------------------------------------------------------------------------------------------


def look(group: Group, event: Event) -> tuple[bool, bytes | None]:
    """Whether the group has handled the event, and the key of its client.

    Raises:
        WrongKey: the settings do not open the key.
    """
    with connection.cursor() as cursor:
        cursor.execute(LOOK, [event.time, event.id, group.name, event.client])
        handled, stored = cursor.fetchone()
    return handled, _unwrapped(stored)


def key_of_client(client: UUID | None) -> bytes | None:
    """The key behind a pseudonym, if it is not destroyed.

    Raises:
        WrongKey: the settings do not open it.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT key FROM choreography_clientkey WHERE id = %s", [client])
        row = cursor.fetchone()
    return None if row is None else _unwrapped(row[0])


def _unwrapped(stored: bytes | None) -> bytes | None:
    return None if stored is None else keys.unwrap(bytes(stored))


def history(stream: UUID) -> list[Event]:
    """All events of a stream in order, readable as far as the client's key allows; [] if there is none.

    Looks only into the partitions of the days from its first event to its last.

    Raises:
        WrongKey: the settings do not open the key.
    """
    with connection.cursor() as cursor:
        cursor.execute(EXTENT, [stream])
        row = cursor.fetchone()
        if row is None:
            return []
        since, until, stored = row
        cursor.execute(HISTORY, [stream, since, until])
        events = [event_of(found) for found in cursor.fetchall()]
    key = _unwrapped(stored)
    return [today(event, key) for event in events]


def listed(topic: str, type: str | None, after: int, limit: int) -> list[Event]:
    """Events of a topic behind a position, in the order of the store, readable as far as keys allow.

    Raises:
        WrongKey: the settings do not open a key.
    """
    condition, given = ("AND type = %s", [type]) if type else ("", [])
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {COLUMNS} FROM choreography_event WHERE topic = %s {condition}"  # noqa: S608  # constants
            " AND position > %s ORDER BY position LIMIT %s",
            [topic, *given, after, limit],
        )
        events = [event_of(found) for found in cursor.fetchall()]
        cursor.execute(KEYS_OF_CLIENTS, [list({event.client for event in events})])
        opened = {client: keys.unwrap(bytes(key)) for client, key in cursor.fetchall()}
    return [today(event, opened.get(event.client)) for event in events]


def today(event: Event, key: bytes | None) -> Event:
    """The event in today's schema, with what can still be read of it."""
    shown = sealing.readable(event, key)
    topic = registry.topics.get(event.topic)
    return shown if topic is None else sealing.upcast(topic, shown)


def event_of(row: Sequence[Any]) -> Event:
    """The event of a row of COLUMNS."""
    position, at, event_id, topic, stream, version, type, schema, source, *more = row
    correlation_id, causation_id, client, sealed, data = more
    moment: datetime = at
    return Event(
        id=event_id,
        topic=topic,
        stream=stream,
        version=version,
        type=type,
        schema_version=schema,
        source=source,
        time=moment,
        correlation_id=correlation_id,
        causation_id=causation_id,
        client=client,
        sealed=sealed,
        data=orjson.loads(data) if isinstance(data, str | bytes) else data,
        position=position,
    )
