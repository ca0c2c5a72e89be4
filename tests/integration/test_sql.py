"""The engine's own way to PostgreSQL answers as Django's cursor does, and keeps out of its way."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import DatabaseError, DataError, IntegrityError, OperationalError, connection, transaction

from sagas import engine, sql
from sagas.models import Saga
from tests.definitions import Chain
from tests.engine import counted, drive, registered
from tests.scripted import Scripted, refuses

pytestmark = pytest.mark.django_db(transaction=True)

SAMPLE = """SELECT %s::text, %s::int, %s::bigint, %s::uuid, %s::text IS NULL, %s::jsonb ->> 'a',
                   timestamptz '2026-01-02 03:04:05.06+00', 'x'::varchar, '100 %%'"""


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The statements that go past Django's cursor, by the name they are prepared under."""
    sent: list[bytes] = []
    send = sql.send

    def listen(pgconn: Any, name: bytes, arguments: Sequence[bytes | None]) -> Any:
        sent.append(name)
        return send(pgconn, name, arguments)

    monkeypatch.setattr(sql, "send", listen)
    return sent


def test_it_answers_as_the_cursor_does(direct: list[bytes]) -> None:
    identity = uuid4()
    params = ("näme", 7, 2**40, identity, None, '{"a": "b"}')
    rows = sql.query(SAMPLE, params)
    moment = datetime(2026, 1, 2, 3, 4, 5, 60_000, tzinfo=UTC)
    assert rows == [("näme", 7, 2**40, identity, True, "b", moment, "x", "100 %")]
    assert isinstance(rows[0][3], UUID)
    assert len(direct) == 1
    with connection.cursor() as cursor:
        cursor.execute(SAMPLE, params)
        assert cursor.fetchall() == rows


def test_a_statement_is_prepared_once_a_connection(direct: list[bytes]) -> None:
    for number in range(3):
        assert sql.query("SELECT %s::int + 1", (number,)) == [(number + 1,)]
    assert len(set(direct)) == 1
    connection.close()
    assert sql.query("SELECT %s::int + 1", (5,)) == [(6,)]


def test_it_answers_nothing_where_there_are_no_rows(direct: list[bytes]) -> None:
    assert sql.query("SELECT 1 WHERE false", ()) == []
    assert sql.query("DELETE FROM sagas_heartbeat WHERE name = %s", ("x",)) == []
    assert len(direct) == 2


@pytest.mark.parametrize(
    ("statement", "params", "error", "text"),
    [
        ("INSERT INTO sagas_typepause (type) VALUES (%s)", ("x",), IntegrityError, "null value"),
        ("SELECT %s::int", ("many",), DataError, "invalid input syntax"),
        ("SELECT %s::text", ("a\0b",), DataError, "NUL"),
        ("SELECT nothing FROM nowhere", (), DatabaseError, "nowhere"),
    ],
)
def test_errors_are_those_of_django(
    statement: str, params: Sequence[Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        sql.query(statement, params)
    assert sql.query("SELECT 1", ()) == [(1,)]


def test_a_lost_connection_is_an_operational_error() -> None:
    with pytest.raises(OperationalError):
        sql.query("SELECT pg_terminate_backend(pg_backend_pid())", ())
    connection.close()
    assert sql.query("SELECT 1", ()) == [(1,)]


def test_in_a_transaction_django_keeps_the_state(direct: list[bytes]) -> None:
    def twice() -> None:
        with transaction.atomic():
            for _ in range(2):
                sql.query("INSERT INTO sagas_heartbeat (name, at, detail) VALUES ('a', now(), '{}')", ())

    with pytest.raises(IntegrityError):
        twice()
    assert sql.query("SELECT count(*) FROM sagas_heartbeat WHERE name = 'a'", ()) == [(0,)]
    assert len(direct) == 1


def test_without_autocommit_django_keeps_the_state(direct: list[bytes]) -> None:
    connection.ensure_connection()
    transaction.set_autocommit(False)
    try:
        sql.query("INSERT INTO sagas_heartbeat (name, at, detail) VALUES ('a', now(), '{}')", ())
        transaction.rollback()
    finally:
        transaction.set_autocommit(True)
    assert sql.query("SELECT count(*) FROM sagas_heartbeat", ()) == [(0,)]
    assert len(direct) == 1


def test_a_session_that_forgets_its_statements_is_told_them_again(direct: list[bytes]) -> None:
    """psycopg deallocates all at a rollback, once it has prepared one of its own."""
    assert sql.query("SELECT %s::int", (1,)) == [(1,)]
    with connection.cursor() as cursor:
        for _ in range(6):
            cursor.execute("SELECT count(*) FROM sagas_saga WHERE type = %s", ("x",))
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        1 / Saga.objects.filter(type="x").count()
    assert sql.query("SELECT %s::int", (2,)) == [(2,)]
    with connection.cursor() as cursor:
        cursor.execute("DISCARD ALL")
    assert sql.query("SELECT %s::int", (3,)) == [(3,)]


def test_a_preparation_that_was_cut_short_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: object) -> list[sql.Row]:
        raise TimeoutError

    with monkeypatch.context() as patch:
        patch.setattr(sql, "_rows", cut)
        with pytest.raises(TimeoutError):
            sql.query("SELECT %s::int + 41", (1,))
    assert sql.query("SELECT %s::int + 41", (1,)) == [(42,)]


def test_who_listens_to_statements_hears_them(direct: list[bytes]) -> None:
    assert counted(lambda: sql.query("SELECT 1", ())) == ["SELECT 1"]
    assert not direct


def test_nothing_is_prepared_where_that_is_switched_off(direct: list[bytes]) -> None:
    connection.ensure_connection()
    raw: Any = connection.connection
    raw.prepare_threshold = None
    try:
        assert sql.query("SELECT %s::int", (1,)) == [(1,)]
    finally:
        connection.close()
    assert not direct


def test_what_a_step_writes_does_not_change_how_it_is_planned(scripted: Scripted) -> None:
    """Five plans of a statement are made for their values, by PostgreSQL's rule; all further are one plan."""
    with registered(Chain):
        for number in range(20):
            if number % 2:
                scripted.will("third", refuses())
            drive(engine.start("chain", {}).state.id)
    rows = sql.query("SELECT name, custom_plans, generic_plans FROM pg_prepared_statements", ())
    plans = {name: (custom, generic) for name, custom, generic in rows if name.startswith("sagas_")}
    busy = [found for found in plans.values() if sum(found) > 50]
    assert len(busy) >= 2
    assert all(custom <= 5 for custom, _ in busy), plans
