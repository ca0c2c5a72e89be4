"""Partitions of the dated tables: made ahead, dropped when they are older than the retention.

Migrating, the relay and beat all make them. A row whose day has none goes to the default partition,
and from there to its day's when that is made.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import structlog
from django.db import connection, transaction
from psycopg import sql

log = structlog.get_logger(__name__)

TABLES = ("choreography_event", "choreography_inbox", "choreography_auditentry")
NAME = re.compile(r"choreography_[a-z]+_(\d{4})(\d{2})(\d{2})")
PARTITIONS = """
SELECT c.relname, pg_total_relation_size(c.oid), greatest(c.reltuples, 0)::bigint
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
 WHERE i.inhparent = %s::text::regclass ORDER BY c.relname
"""
UNPUBLISHED = "SELECT min(at) FROM choreography_outbox"
# A letter that outlives its stream does not know its client any more, so it keeps no word of them.
FORGET = """
WITH gone AS (DELETE FROM choreography_stream WHERE ended_at < %s RETURNING id)
UPDATE choreography_deadletter SET reason = 'beyond the retention', note = ''
 WHERE stream IN (SELECT id FROM gone)
"""
# Whoever makes partitions waits for whoever else does.
ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(7306081250320)"


@dataclass(frozen=True, slots=True)
class Partition:
    """One day of one table."""

    name: str
    day: date
    bytes: int
    rows: int


def existing(table: str) -> list[Partition]:
    """The days of a table, oldest first; rows as last analysed."""
    with connection.cursor() as cursor:
        cursor.execute(PARTITIONS, [table])
        found = [(NAME.fullmatch(name), name, size, rows) for name, size, rows in cursor.fetchall()]
    return [
        Partition(name, date(*map(int, day.groups())), size, rows) for day, name, size, rows in found if day
    ]


def possible() -> bool:
    """Whether the database has been migrated so far that partitions can be made."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regprocedure('choreography_make_default(text)') IS NOT NULL")
        return bool(cursor.fetchone()[0])


def strays(table: str) -> int:
    """How many rows lie in the table's default partition, because that of their day was missing."""
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(f"{table}_default")))
        return int(cursor.fetchone()[0])


def secure(ahead: timedelta, now: datetime | None = None) -> int:
    """Make the partitions of the days ahead, and of those that rows have come for without one.

    Returns how many tables were made.

    Raises:
        OperationalError: readers of the tables did not give way; nothing is made, try again later.
    """
    now = now or datetime.now(UTC)
    with transaction.atomic(), connection.cursor() as cursor:
        # Whoever waits for this lock holds up all who come behind, so it waits for a moment only.
        cursor.execute("SET LOCAL lock_timeout = '1s'")
        cursor.execute(ONE_AT_A_TIME)
        astray = {table: count for table in TABLES if (count := strays(table))}
        if astray:
            log.error(
                "partitions_missing", rows=astray, mend="now moved to their days; let relay or beat run"
            )
        return make(now.date() - timedelta(days=1), (now + ahead).date())


def maintain(ahead: timedelta, retention: timedelta, now: datetime | None = None) -> tuple[int, list[str]]:
    """Make partitions as `secure` does, drop those wholly older than `retention`.

    Streams that ended before that go too, and with them what dead letters say of them; what has still to
    be published stays. Returns how many were made, and the names of those dropped.

    Raises:
        OperationalError: readers of the tables did not give way; nothing is done, try again later.
    """
    now = now or datetime.now(UTC)
    with transaction.atomic(), connection.cursor() as cursor:
        made = secure(ahead, now)
        cursor.execute(UNPUBLISHED)
        limit = min(filter(None, (now - retention, cursor.fetchone()[0])))
        dropped = [p.name for table in TABLES for p in existing(table) if p.day < limit.date()]
        for name in dropped:
            cursor.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))
        cursor.execute(FORGET, [limit])
    return made, dropped


def make(since: date, until: date) -> int:
    """Make the partitions of these days, both included; returns how many tables were made."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT choreography_make_partitions(%s::date, %s::date)", [since, until])
        return int(cursor.fetchone()[0])
