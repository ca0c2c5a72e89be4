"""Sends the engine's statements: by libpq itself where nothing stands between, else by Django's cursor.

A saga's step is two statements of microseconds on the server. Django's cursor and psycopg's adaptation
take a worker longer than the engine's own decision, so each statement is prepared once a connection and
executed by `psycopg.pq`, psycopg's documented wrapper of libpq. The connection is Django's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import count
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import psycopg
from django.db import DEFAULT_DB_ALIAS, connection, connections
from psycopg.errors import InvalidSqlStatementName, error_from_result
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

Row = tuple[Any, ...]

# Text as PostgreSQL writes it, by the type's number in its catalogue; anything else stays text.
LOADERS: Mapping[int, Callable[[str], Any]] = {
    16: "t".__eq__,  # boolean
    20: int,
    21: int,
    23: int,
    1184: datetime.fromisoformat,  # timestamp with time zone
    2950: UUID,
}

_prepared: WeakKeyDictionary[psycopg.Connection[Any], dict[str, bytes]] = WeakKeyDictionary()
_numbers = count()  # a name is never used twice, also if its first user was cut short


def query(sql: str, params: Sequence[Any] | Mapping[str, Any]) -> list[Row]:
    """All rows of one statement, on Django's default connection.

    Raises:
        django.db.Error: as Django's cursor raises it.
    """
    raw = _direct()
    arguments = _texts(params) if raw is not None and not isinstance(params, Mapping) else None
    if raw is None or arguments is None:
        with connection.cursor() as cursor:
            cursor.execute(sql, params)
            return list(cursor.fetchall()) if cursor.description else []
    with connection.wrap_database_errors:
        try:
            return _rows(raw.pgconn, send(raw.pgconn, _name(raw, sql), arguments))
        except InvalidSqlStatementName:
            # Nothing was executed. psycopg drops all prepared statements of a session when one of its own
            # transactions is rolled back, and so does DISCARD ALL.
            _prepared.pop(raw, None)
            return _rows(raw.pgconn, send(raw.pgconn, _name(raw, sql), arguments))


def send(pgconn: Any, name: bytes, arguments: Sequence[bytes | None]) -> PGresult:
    """Execute a prepared statement and wait for its result; one round trip."""
    result: PGresult = pgconn.exec_prepared(
        name, arguments
    )  # its annotations leave out that NULL may be given
    return result


def _direct() -> psycopg.Connection[Any] | None:
    """The connection, if statements may go past Django's cursor.

    Not in a transaction, or without autocommit, whose state Django keeps; not while somebody listens
    to the statements; and not where prepared statements are switched off, as behind some poolers.
    """
    django = connections[DEFAULT_DB_ALIAS]
    if django.in_atomic_block or django.execute_wrappers or django.queries_logged:
        return None
    django.close_if_health_check_failed()
    django.ensure_connection()
    raw: Any = django.connection
    return raw if django.autocommit and getattr(raw, "prepare_threshold", None) is not None else None


def _texts(params: Sequence[Any]) -> list[bytes | None] | None:
    """The parameters as libpq takes them; None if one needs psycopg, which has a form or an error for it."""
    texts: list[bytes | None] = []
    for value in params:
        if value is None:
            texts.append(None)
            continue
        if isinstance(value, str):
            text = value.encode()
            if b"\0" in text:
                return None
        elif isinstance(value, int | float | UUID) and not isinstance(value, bool):
            text = str(value).encode()
        else:
            return None
        texts.append(text)
    return texts


def _name(raw: psycopg.Connection[Any], sql: str) -> bytes:
    """The statement's name on this connection, which prepares it at first."""
    known = _prepared.setdefault(raw, {})
    name = known.get(sql)
    if name is None:
        name = f"sagas_{next(_numbers)}".encode()
        _rows(raw.pgconn, raw.pgconn.prepare(name, _numbered(sql)))
        known[sql] = name
    return name


@lru_cache
def _numbered(sql: str) -> bytes:
    """`sql` with `$1`, `$2` for its placeholders."""
    pieces = sql.split("%s")
    numbered = [f"{piece}${number}" for number, piece in enumerate(pieces[:-1], start=1)]
    return "".join([*numbered, pieces[-1]]).replace("%%", "%").encode()


def _rows(pgconn: PGconn, result: PGresult) -> list[Row]:
    if result.status == ExecStatus.TUPLES_OK:
        columns = [LOADERS.get(result.ftype(column)) for column in range(result.nfields)]
        return [_row(result, row, columns) for row in range(result.ntuples)]
    if result.status == ExecStatus.COMMAND_OK:
        return []
    if pgconn.status == ConnStatus.BAD:
        raise psycopg.OperationalError(result.error_message.decode(errors="replace"))
    raise error_from_result(result)


def _row(result: PGresult, row: int, columns: Sequence[Callable[[str], Any] | None]) -> Row:
    values: list[Any] = []
    for column, load in enumerate(columns):
        value = result.get_value(row, column)
        text = None if value is None else value.decode()
        values.append(text if text is None or load is None else load(text))
    return tuple(values)
