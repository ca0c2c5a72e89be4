"""Which versions of which types are in flight, and whether this process has their code (rule 2)."""

from __future__ import annotations

from django.db import connection

from sagas.definition import registry
from sagas.state import FINISHED, Status

MEND = "deploy it beside the new version until these have ended"
# An aggregate over what is unfinished, for people and at a worker's start. The statuses are named one by
# one, for which there is an index; the finished are by far the most.
IN_FLIGHT = """
SELECT type, version, count(*) FROM sagas_saga
WHERE status = ANY(%s) GROUP BY 1, 2 ORDER BY 1, 2"""
UNFINISHED = sorted(status.value for status in set(Status) - FINISHED)


def in_flight() -> list[tuple[str, int, int]]:
    """Type, version, and how many sagas of it have not ended."""
    with connection.cursor() as cursor:
        cursor.execute(IN_FLIGHT, [UNFINISHED])
        return [(saga_type, version, count) for saga_type, version, count in cursor.fetchall()]


def without_code() -> list[str]:
    """The versions in flight that this process has no code for, in words."""
    return [f"{name} version {version}" for name, version, _ in in_flight() if not has_code(name, version)]


def has_code(saga_type: str, version: int) -> bool:
    """Whether this process can serve that version."""
    return (saga_type, version) in registry.by_key
