"""Moving sagas by hand on a real PostgreSQL: one message at a time, or many at once."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from threading import Barrier
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection

from sagas import engine, worker
from sagas.definition import SagaDefinition, registry
from sagas.engine import Progress
from sagas.models import SagaEvent
from sagas.state import FINISHED, NEEDS_PERSON, Decision, SagaState

LEASE = timedelta(seconds=40)
Result = TypeVar("Result")


@contextmanager
def registered(*definitions: type[SagaDefinition]) -> Iterator[None]:
    """Code for these sagas while the context lasts."""
    keys = [(definition.type, definition.version) for definition in definitions]
    for definition in definitions:
        registry.add(definition())
    try:
        yield
    finally:
        for key in keys:
            del registry.by_key[key]


def definition_of(state: SagaState) -> SagaDefinition:
    """The code of a saga."""
    return registry.get(state.type, state.version)


def deliver(state: SagaState, position: int) -> Progress:
    """What a worker does with the message for one step."""
    return worker.advance(definition_of(state), state.id, position, state.epoch)


def drive(saga_id: UUID) -> SagaState:
    """Deliver message after message, with no pause between attempts, until the saga rests."""
    for _ in range(100):
        state = engine.load(saga_id)
        due = engine.due_positions(state)
        if state.status in FINISHED | NEEDS_PERSON or not due:
            return state
        hasten(saga_id)
        deliver(state, due[0])
    raise AssertionError(f"saga {saga_id} does not come to rest")


def hasten(saga_id: UUID) -> None:
    """Let the pauses of a saga be over."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE sagas_sagastep SET due_at = clock_timestamp() WHERE saga_id = %s AND due_at IS NOT NULL",
            [saga_id],
        )


def put_back(saga_id: UUID, column: str) -> None:
    """Let a time of a saga (`wake_at`, `deadline_at`), or the leases of its steps, lie in the past."""
    table, key = ("sagas_sagastep", "saga_id") if column == "lease_until" else ("sagas_saga", "id")
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {table} SET {column} = clock_timestamp() - interval '1 second'"  # noqa: S608  names of ours
            f" WHERE {key} = %s AND {column} IS NOT NULL",
            [saga_id],
        )


def claimed(state: SagaState, position: int = 0, lease: timedelta = LEASE) -> SagaState:
    """The saga with one step claimed by a worker that does nothing more."""
    after = engine.claim(state.id, position, state.epoch, lease)
    assert after is not None, "there is nothing to claim"
    return after


def kinds(saga_id: UUID) -> list[str]:
    """The audit of a saga in short."""
    return list(SagaEvent.objects.filter(saga_id=saga_id).order_by("id").values_list("kind", flat=True))


def together(*doings: Callable[[], Result]) -> list[Result | Exception]:
    """Do all of it at the same moment, each on a connection of its own; errors are results."""
    barrier = Barrier(len(doings))

    def do(doing: Callable[[], Result]) -> Result | Exception:
        try:
            connection.ensure_connection()
            barrier.wait(30)
            return doing()
        except Exception as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(doings)) as pool:
        return list(pool.map(do, doings))


def unchanged(state: SagaState, **changes: Any) -> Decision:
    """A decision on the saga as given that changes nothing but what is told."""
    return Decision(state.rev, replace(state, rev=state.rev + 1, **changes), (), ())


def counted(doing: Callable[[], Any]) -> list[str]:
    """The statements that were sent to the sagas' database meanwhile."""
    sent: list[str] = []

    def count(execute: Any, sql: str, params: Sequence[Any], many: bool, context: Any) -> Any:
        sent.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(count):
        doing()
    return sent


def plan(sql: str, params: Sequence[Any]) -> str:
    """How PostgreSQL runs a statement, having run it: nodes, indexes and the blocks that it read."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", params)
        found = cursor.fetchone()[0]
    return found if isinstance(found, str) else json.dumps(found)
