"""Folding events into tables: batch by batch as they come, or all of them into a shadow.

One statement per fold serves both, so that a read model equals its rebuild by construction. The
statement reads the events from the store; the bus only says which ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from sagas.choreography.events import Event
from sagas.choreography.store import COLUMNS
from sagas.choreography.topics import Fold, Group, registry

DAY = timedelta(days=1)
# What the group gave up is in the rebuild like everything else.
SETTLE = """
UPDATE choreography_deadletter SET redriven_at = clock_timestamp(), redriven_by = 'rebuild'
 WHERE consumer = %s AND redriven_at IS NULL
"""
INBOX = """
INSERT INTO choreography_inbox (at, event_id, consumer)
SELECT DISTINCT e.at, e.event_id, %s
  FROM unnest(%s::timestamptz[], %s::bigint[]) AS given (at, position)
  JOIN choreography_event e ON e.at = given.at AND e.position = given.position
ON CONFLICT DO NOTHING RETURNING event_id
"""
OF_BATCH = "at = ANY(%(times)s::timestamptz[]) AND position = ANY(%(positions)s::bigint[])"
LIVE = {
    "FOR SHARE": "SELECT generation FROM choreography_readmodel WHERE name = %s FOR SHARE",
    "FOR UPDATE": "SELECT generation FROM choreography_readmodel WHERE name = %s FOR UPDATE",
}
# A rebuild counts every event of a day as handled, also those that are still on their way, and folds those
# that are: what is committed between the two statements is neither, and its consumer takes it in later.
HANDLE_DAY = """
INSERT INTO choreography_inbox (at, event_id, consumer)
SELECT e.at, e.event_id, %(consumer)s::varchar FROM choreography_event e
 WHERE e.topic = %(topic)s AND e.type = ANY(%(types)s) AND e.at >= %(since)s AND e.at < %(until)s
   AND NOT EXISTS (SELECT FROM choreography_inbox i WHERE i.consumer = %(consumer)s::varchar
                    AND i.event_id = e.event_id AND i.at = e.at
                    AND i.at >= %(since)s AND i.at < %(until)s)
ON CONFLICT DO NOTHING
"""
OF_DAY = """
topic = %(topic)s AND type = ANY(%(types)s) AND at >= %(since)s AND at < %(until)s
AND (event_id, at) IN (SELECT i.event_id, i.at FROM choreography_inbox i
                        WHERE i.consumer = %(consumer)s::varchar AND i.at >= %(since)s AND i.at < %(until)s)
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rebuild is: days done of all, and what was folded so far."""

    done: int
    days: int
    events: int


def apply(group: Group, events: Sequence[Event]) -> frozenset[UUID]:
    """Fold the events that the group has not handled, in one transaction; returns their ids."""
    if not events:
        return frozenset()
    with transaction.atomic(), connection.cursor() as cursor:
        generation = _live(cursor, group, "FOR SHARE")
        given: list[Any] = [group.name, [e.time for e in events], [e.position for e in events]]
        cursor.execute(INBOX, given)
        fresh = frozenset(row[0] for row in cursor.fetchall())
        chosen = [event for event in events if event.id in fresh]
        if chosen:
            values: dict[str, Any] = {
                "generation": generation,
                "times": [event.time for event in chosen],
                "positions": [event.position for event in chosen],
            }
            cursor.execute(statement(group, OF_BATCH), values)
    return fresh


def statement(group: Group, selection: str) -> str:
    """The group's fold over the events that `selection` chooses."""
    return (
        f"WITH events AS MATERIALIZED (SELECT {COLUMNS} FROM choreography_event"  # noqa: S608  # written in code, with parameters
        f" WHERE {selection}) {_fold(group).statement}"
    )


def rebuild(name: str, progress: Callable[[Progress], None] = lambda _: None) -> Progress:
    """Fold the whole store into a shadow of the read model of that name, then switch over to it.

    Readers go on reading the old rows until the very end; the model's consumer waits. The dead letters
    of its group are settled by it.

    Raises:
        LookupError: there is no read model of that name.
    """
    group = models().get(name)
    if group is None:
        raise LookupError(f"there is no read model {name}; there are: {', '.join(sorted(models()))}")
    fold = _fold(group)
    with transaction.atomic(), connection.cursor() as cursor:
        live = _live(cursor, group, "FOR UPDATE")
        done = _fill(cursor, group, live + 1, progress)
        cursor.execute(SETTLE, [group.name])
        cursor.execute(
            "UPDATE choreography_readmodel SET generation = %s, switched_at = clock_timestamp()"
            " WHERE name = %s",
            [live + 1, fold.table],
        )
        cursor.execute(f"DELETE FROM choreography_{fold.table} WHERE generation <= %s", [live])  # noqa: S608  # named in code
    return done


def _fill(cursor: Any, group: Group, generation: int, progress: Callable[[Progress], None]) -> Progress:
    days = _days(cursor)
    done = Progress(0, len(days), 0)
    for number, since in enumerate(days, 1):
        values = {
            "since": since,
            "until": since + DAY,
            "consumer": group.name,
            "topic": group.topic.name,
            "types": list(group.types),
        }
        cursor.execute(HANDLE_DAY, values)
        cursor.execute(statement(group, OF_DAY), {**values, "generation": generation})
        cursor.execute(
            "SELECT count(*) FROM choreography_event WHERE topic = %s AND type = ANY(%s)"
            " AND at >= %s AND at < %s",
            [group.topic.name, list(group.types), since, since + DAY],
        )
        done = Progress(number, len(days), done.events + cursor.fetchone()[0])
        progress(done)
    return done


def _days(cursor: Any) -> list[datetime]:
    """The days (UTC) from the first event of the store to the last, in order."""
    cursor.execute(
        "SELECT generate_series(date_trunc('day', min(at), 'UTC'), max(at), '1 day') FROM choreography_event"
    )
    return [row[0] for row in cursor.fetchall()]


def models() -> dict[str, Group]:
    """The groups that keep a read model, by its name."""
    return {g.fold.table: g for g in registry.groups.values() if g.fold is not None and g.fold.table}


def hold_all(cursor: Any) -> None:
    """Keep every fold from taking place until the transaction ends."""
    for group in models().values():
        _live(cursor, group, "FOR UPDATE")


def hold(cursor: Any, group: Group) -> None:
    """Keep the group's read model, if it has one, from being rebuilt until the transaction ends."""
    if group.fold is not None:
        _live(cursor, group, "FOR SHARE")


def _live(cursor: Any, group: Group, lock: str) -> int:
    """The live generation of the group's read model; 0 for a fold that keeps none."""
    fold = _fold(group)
    if not fold.table:
        return 0
    while True:
        cursor.execute(LIVE[lock], [fold.table])
        row = cursor.fetchone()
        if row is not None:
            return int(row[0])
        cursor.execute(
            "INSERT INTO choreography_readmodel (name, generation) VALUES (%s, 1) ON CONFLICT DO NOTHING",
            [fold.table],
        )


def _fold(group: Group) -> Fold:
    if group.fold is None:
        raise LookupError(f"{group.name} reacts to events, it does not fold them")
    return group.fold
