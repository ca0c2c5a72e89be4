"""Partitions of the dated tables: made ahead, dropped when they are older than the retention."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from django.db import connection, transaction
from psycopg import sql

TABLES = ("choreography_event", "choreography_inbox", "choreography_auditentry")
NAME = re.compile(r"choreography_[a-z]+_(\d{4})(\d{2})(\d{2})")
PARTITIONS = """
SELECT c.relname, pg_total_relation_size(c.oid), greatest(c.reltuples, 0)::bigint
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
 WHERE i.inhparent = %s::text::regclass ORDER BY c.relname
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
    """The partitions of a table, oldest first; rows as last analysed."""
    with connection.cursor() as cursor:
        cursor.execute(PARTITIONS, [table])
        return [Partition(name, day_of(name), size, rows) for name, size, rows in cursor.fetchall()]


def maintain(ahead: timedelta, retention: timedelta, now: datetime | None = None) -> tuple[int, list[str]]:
    """Make the partitions of the days ahead, drop those wholly older than `retention`.

    Streams that ended before that go too. Returns how many were made, and the names of those dropped.
    """
    now = now or datetime.now(UTC)
    with transaction.atomic(), connection.cursor() as cursor:
        # Readers of old days are not kept waiting long: whoever cannot have the lock tries again later.
        cursor.execute("SET LOCAL lock_timeout = '5s'")
        cursor.execute(ONE_AT_A_TIME)
        made = make(now.date() - timedelta(days=1), (now + ahead).date())
        limit = (now - retention).date()
        dropped = [p.name for table in TABLES for p in existing(table) if p.day < limit]
        for name in dropped:
            cursor.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))
        cursor.execute("DELETE FROM choreography_stream WHERE ended_at < %s", [now - retention])
    return made, dropped


def make(since: date, until: date) -> int:
    """Make the partitions of these days, both included; returns how many tables were made."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT choreography_make_partitions(%s::date, %s::date)", [since, until])
        return int(cursor.fetchone()[0])


def day_of(name: str) -> date:
    """The day of a partition, by its name."""
    found = NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{name} is not the name of a partition")
    return date(*map(int, found.groups()))
