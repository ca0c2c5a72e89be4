"""What a transition costs, what a scan reads, and what the database itself refuses."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, connection

from sagas import engine
from sagas.conf import conf
from sagas.models import SagaEvent
from sagas.state import ACTIVE, SagaState, Status
from tests.definitions import Chain, InlineChain
from tests.engine import counted, deliver, drive, kinds, plan, registered
from tests.scripted import Scripted, refuses

pytestmark = pytest.mark.django_db(transaction=True)

SOURCES = Path(engine.__file__).parent


@pytest.fixture(autouse=True)
def definitions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Code for the sagas of these tests, in a process that has warmed up."""
    monkeypatch.setattr(engine, "PAUSES_KNOWN_FOR", 3600.0)
    engine.paused_types()
    engine.clock.now()
    with registered(Chain, InlineChain):
        yield


def run(state: SagaState) -> SagaState:
    """Deliver one message after the other until the saga rests."""
    while state.status in ACTIVE:
        progress = deliver(state, engine.due_positions(state)[0])
        assert progress.state is not None
        state = progress.state
    return state


# --- Statements ---------------------------------------------------------------------------------------


def test_a_start_is_one_statement() -> None:
    assert len(counted(lambda: engine.start("chain", {}))) == 1


def test_a_start_under_a_key_is_one_statement() -> None:
    assert len(counted(lambda: engine.start("chain", {}, idempotency_key="k", owner_id=1))) == 1


def test_a_step_is_two_statements(scripted: Scripted) -> None:
    state = engine.start("chain", {}).state
    sent = counted(lambda: run(state))
    assert engine.load(state.id).status is Status.COMPLETED
    assert len(sent) == 2 * 4


def test_a_compensation_is_two_statements(scripted: Scripted) -> None:
    scripted.will("last", refuses())
    state = engine.start("chain", {}).state
    sent = counted(lambda: run(state))
    assert engine.load(state.id).status is Status.COMPENSATED
    assert len(sent) == 2 * (4 + 3)


def test_inline_a_step_is_one_statement_and_a_saga_one_more(scripted: Scripted) -> None:
    state = engine.start("inline_chain", {}).state
    sent = counted(lambda: run(state))
    assert engine.load(state.id).status is Status.COMPLETED
    assert len(sent) == 1 + 4


def test_inline_a_compensation_is_one_statement(scripted: Scripted) -> None:
    scripted.will("last", refuses())
    state = engine.start("inline_chain", {}).state
    sent = counted(lambda: run(state))
    assert engine.load(state.id).status is Status.COMPENSATED
    assert len(sent) == 1 + 4 + 3


def test_a_message_that_comes_in_vain_is_one_statement(scripted: Scripted) -> None:
    state = engine.start("chain", {}).state
    deliver(state, 0)
    assert len(counted(lambda: deliver(state, 0))) == 1


# --- What scans read ----------------------------------------------------------------------------------


@pytest.fixture
def many_others(transactional_db: None) -> None:
    """A table of finished sagas and of such as wait for days, with a few that run."""
    with connection.cursor() as cursor:
        for status, resume_at, count in (("completed", None, 20_000), ("waiting", "3 days", 5_000)):
            cursor.execute(
                """INSERT INTO sagas_saga (id, type, version, status, epoch, rev, sequence, rings, extensions,
                       data, correlation_id, fingerprint, created_at, resume_at, mailbox)
                   SELECT gen_random_uuid(), 'chain', 1, %s, 0, 9, 4, 0, 0, '{}', 'c', '',
                          clock_timestamp(), clock_timestamp() + %s::interval, '[]'
                   FROM generate_series(1, %s)""",
                [status, resume_at, count],
            )
    for _ in range(20):
        engine.start("chain", {})
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE sagas_saga")


@pytest.mark.parametrize(
    ("scan", "indexes"),
    [
        (engine.take_interrupted, {"saga_active", "saga_by_status"}),
        (engine.take_overdue, {"saga_active", "saga_by_status"}),
        (engine.take_waiting, {"saga_waits_until"}),
    ],
)
def test_a_scan_reads_what_is_due_not_what_exists(
    scan: Any, indexes: set[str], many_others: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Any]] = []
    query = engine._query

    def listen(sql: str, params: Any) -> list[Any]:
        asked.append((sql, params))
        return query(sql, params)

    monkeypatch.setattr(engine, "_query", listen)
    assert scan(50) == []
    text = plan(*asked[-1])
    assert indexes & set(re.findall(r'"Index Name": "(\w+)"', text)), text
    assert "Seq Scan" not in text, text
    assert max(int(n) for n in re.findall(r'"Shared Hit Blocks": (\d+)', text)) < 50, text


def test_updates_of_a_running_saga_touch_no_index(scripted: Scripted) -> None:
    def counters() -> dict[str, tuple[int, int]]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_force_next_flush()")
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(
                "SELECT relname, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
                " WHERE relname IN ('sagas_saga', 'sagas_sagastep')"
            )
            return {name: (updated, hot) for name, updated, hot in cursor.fetchall()}

    before = counters()
    for _ in range(10):
        run(engine.start("chain", {}).state)
    after = counters()
    steps, sagas = (
        tuple(after[t][i] - before[t][i] for i in (0, 1)) for t in ("sagas_sagastep", "sagas_saga")
    )
    # A saga's status is in an index: it changes twice, at the first claim and at the end.
    assert sagas[0] == 10 * 8
    assert sagas[1] >= 0.9 * 10 * 6, sagas
    assert steps[1] >= 0.9 * steps[0] > 0, steps


# --- What the database refuses ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE sagas_sagaevent SET reason = 'other'",
        "DELETE FROM sagas_sagaevent",
        "TRUNCATE sagas_sagaevent",
        "UPDATE sagas_circuitevent SET reason = 'other'",
        "DELETE FROM sagas_circuitevent",
        "TRUNCATE sagas_circuitevent",
        "UPDATE sagas_typeevent SET reason = 'other'",
        "DELETE FROM sagas_typeevent",
        "TRUNCATE sagas_typeevent",
    ],
)
def test_rule_25_the_audit_is_append_only(sql: str) -> None:
    state = engine.start("chain", {}).state
    engine.pause_type("chain", actor="ann", reason="release")
    engine.close_circuit(next(iter(conf().participants)), actor="ann", reason="it is back")
    with pytest.raises(IntegrityError, match="append-only"), connection.cursor() as cursor:
        cursor.execute(sql)
    with pytest.raises(IntegrityError, match="append-only"):
        SagaEvent.objects.filter(saga_id=state.id).update(reason="other")
    assert kinds(state.id) == ["saga_started"]


def test_rule_24_an_intervention_says_who_and_why(scripted: Scripted) -> None:
    state = engine.start("chain", {}, actor="web").state
    engine.compensate(state.id, actor="ann", reason="wrong basket", request_id="r1")
    drive(state.id)
    row = SagaEvent.objects.get(saga_id=state.id, request_id="r1")
    assert (row.kind, row.actor, row.reason) == ("compensate", "ann", "wrong basket")
    assert isinstance(row.saga_id, UUID)


# --- Who writes ---------------------------------------------------------------------------------------

STATE = ("Saga", "SagaStep", "SagaEvent", "SagaLock", "TypePause", "TypeEvent", "Heartbeat")
WRITES = frozenset(
    {"save", "create", "update", "delete", "bulk_create", "bulk_update", "get_or_create", "update_or_create"}
)
TABLES = "|".join(f"sagas_{name.lower()}" for name in STATE)
RAW = re.compile(
    rf"\b(INSERT\s+INTO|UPDATE|DELETE\s+FROM|TRUNCATE|MERGE\s+INTO)\s+\"?({TABLES})\b", re.IGNORECASE
)
MANAGERS = re.compile(rf"\b({'|'.join(STATE)})\b|\bqueryset\b|\bsaga(s)?\b|\.(steps|events)\b")


def writes_in(source: str) -> list[str]:
    """The places in a module that write a saga's tables, by the ORM or by SQL."""
    found = [match.group(0) for match in RAW.finditer(source)]
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        target = ast.unparse(node.func.value)
        if node.func.attr in WRITES and MANAGERS.search(target):
            found.append(f"{target}.{node.func.attr}()")
    return found


def test_the_search_for_writers_finds_them() -> None:
    assert writes_in("Saga.objects.filter(id=1).update(status='failed')")
    assert writes_in("saga.save()")
    assert writes_in("saga.steps.all().delete()")
    assert writes_in("cursor.execute('UPDATE sagas_saga SET status = 1')")
    assert writes_in("queryset.update(status='failed')")
    assert not writes_in("draft.update(status=1)\nuser.save()\nSaga.objects.filter(id=1).exists()")


def test_the_engine_is_the_only_module_that_writes_saga_state() -> None:
    modules = [path for path in SOURCES.rglob("*.py") if "migrations" not in path.parts]
    writers = {str(path.relative_to(SOURCES)): writes_in(path.read_text()) for path in modules}
    assert [name for name, found in writers.items() if found] == ["engine.py"], writers
