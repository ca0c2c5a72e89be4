"""Keys of clients: destroyed to anonymise one, and with it what events say of them; wrapped anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from sagas.choreography import keys, projections
from sagas.choreography.topics import registry
from sagas.errors import NotAllowed

DESTROY = """
UPDATE choreography_clientkey
   SET key = NULL, client_id = NULL, destroyed_at = clock_timestamp()
 WHERE client_id = %s RETURNING id
"""
OPEN = "SELECT count(*) FROM choreography_stream WHERE client = %s AND ended_at IS NULL"
DEAD = """
SELECT count(*) FROM choreography_deadletter l JOIN choreography_stream s ON s.id = l.stream
 WHERE s.client = %s AND l.redriven_at IS NULL
"""
# What was told before a group's checkpoint it has handled, or was never to hear.
UNHANDLED = """
SELECT count(DISTINCT e.position)
  FROM unnest(%(consumers)s::varchar[], %(topics)s::varchar[], %(types)s::varchar[])
       AS heard (consumer, topic, type)
  LEFT JOIN choreography_checkpoint c ON c.consumer = heard.consumer
  JOIN choreography_event e ON e.topic = heard.topic AND e.type = heard.type AND e.client = %(client)s
   AND e.at >= coalesce(c.at, '-infinity')
 WHERE NOT EXISTS (SELECT FROM choreography_inbox i WHERE i.at = e.at AND i.event_id = e.event_id
                    AND i.consumer = heard.consumer)
"""
# What participants answered, or a person noted, may tell of the client.
REASONS = """
UPDATE choreography_deadletter SET reason = 'anonymised', note = ''
 WHERE stream IN (SELECT id FROM choreography_stream WHERE client = %s)
"""
# Who began a stream may be the client.
OWNERS = "UPDATE choreography_stream SET owner_id = NULL WHERE client = %s"
EVENTS = "SELECT count(*) FROM choreography_event WHERE client = %s AND sealed <> ''"

BATCH = 500
KEYS = """
SELECT id, key FROM choreography_clientkey
 WHERE key IS NOT NULL AND (%s::uuid IS NULL OR id > %s) ORDER BY id LIMIT %s
"""
# A key that was destroyed meanwhile stays so.
REPLACE = "UPDATE choreography_clientkey SET key = %s WHERE id = %s AND key = %s"


@dataclass(frozen=True, slots=True)
class Anonymised:
    """What was made unreadable: events of the client, and rows of read models that were deleted."""

    events: int
    rows: int


def anonymise(client_id: int) -> Anonymised | None:
    """Destroy the client's key; None if nothing is known of them.

    Raises:
        NotAllowed: a stream of theirs is still open, or a group has still to react to an event of
            theirs, such as by a refund, or has given one up; that could not be done without them.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        projections.hold_all(cursor)
        cursor.execute(DESTROY, [client_id])
        row = cursor.fetchone()
        if row is None:
            return None
        _require_rest(cursor, client_id, row[0])
        rows = 0
        for group in registry.groups.values():
            if group.fold is not None and group.fold.forget:
                cursor.execute(group.fold.forget, {"client_id": client_id})
                rows += cursor.rowcount
        cursor.execute(REASONS, [row[0]])
        cursor.execute(OWNERS, [row[0]])
        cursor.execute(EVENTS, [row[0]])
        return Anonymised(int(cursor.fetchone()[0]), rows)


def _require_rest(cursor: Any, client_id: int, client: UUID) -> None:
    """Fails while anything is still to be done for the client; letters first, since a redrive ends theirs."""
    cursor.execute(OPEN, [client])
    if count := cursor.fetchone()[0]:
        raise NotAllowed(f"{count} transactions of client {client_id} are open; wait for their end")
    cursor.execute(DEAD, [client])
    if count := cursor.fetchone()[0]:
        raise NotAllowed(f"{count} dead letters of client {client_id} wait; redrive or settle them first")
    heard = [(g.name, g.topic.name, type) for g in registry.groups.values() for type in g.reactions]
    consumers, topics, types = zip(*heard, strict=True) if heard else ((), (), ())
    given = {"consumers": list(consumers), "topics": list(topics), "types": list(types), "client": client}
    cursor.execute(UNHANDLED, given)
    if count := cursor.fetchone()[0]:
        raise NotAllowed(f"{count} events of client {client_id} are still to be handled; try again later")


def rewrap() -> int:
    """Wrap the keys of all clients with the first secret of the settings; returns how many were not.

    Raises:
        WrongKey: one of them is opened by no secret of the settings; those before it are done.
    """
    count, last = 0, None
    with connection.cursor() as cursor:
        while True:
            cursor.execute(KEYS, [last, last, BATCH])
            rows = cursor.fetchall()
            if not rows:
                return count
            for id, stored in rows:
                fresh = keys.rewrapped(bytes(stored))
                if fresh is not None:
                    cursor.execute(REPLACE, [fresh, id, bytes(stored)])
                    count += cursor.rowcount
            last = rows[-1][0]
