"""Demo data: each participant's module `seed` holds `rows()`, the rows that must be there.

A row that is there already is kept as it is, whatever became of it since.
"""

from collections.abc import Iterable
from importlib import import_module

from django.db import connections, transaction
from django.db.models import Model


def seed(participant: str) -> int:
    """Add the rows that are missing; tells how many there were."""
    rows: Iterable[Model] = import_module(f"participants.{participant}.seed").rows()
    with transaction.atomic(using=participant):
        return sum(add(row) for row in rows)


def add(row: Model) -> bool:
    """Insert a row under its own primary key unless one is there."""
    model = type(row)
    if model._default_manager.filter(pk=row.pk).exists():
        return False
    row.save(force_insert=True)
    advance_sequence(model)
    return True


def advance_sequence(model: type[Model]) -> None:
    """Move the sequence of the primary key past the ids that seeding chose itself, and never back."""
    table = model._meta.db_table
    connection = connections[model._meta.app_label]
    name = connection.ops.quote_name(table)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT setval(pg_get_serial_sequence(%s::text, 'id'), max(id)) FROM {name} "  # noqa: S608  a table of ours
            "HAVING max(id) > coalesce(pg_sequence_last_value(pg_get_serial_sequence(%s::text, 'id')), 0)",
            [table, table],
        )
