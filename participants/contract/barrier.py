"""Makes an operation happen at most once per key, and an action never after its compensation.

The transaction of an operation opens with one statement that takes an advisory lock on the
action's key (a compensation: on its own key too) and inserts the key's row; a compensation also
inserts the action's row, so that whoever comes second sees the other. The lock is only ever
tried: a call that finds it taken is told `in_progress` at once and has changed nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from http import HTTPStatus
from typing import Any, cast

import orjson
from django.apps import apps
from django.db import InterfaceError, OperationalError, connections, transaction
from django.db.models import Manager
from pydantic import ValidationError

from participants.contract.bodies import Body
from participants.contract.models import Operation
from participants.contract.outcomes import (
    Answer,
    Outcome,
    Refused,
    Result,
    error,
    refusal,
    success,
    unprocessable,
)
from participants.contract.service import Action, Call, Compensation, Effect, Recorded

NOTHING_TO_UNDO = "nothing_to_undo"
COMPENSATED_FIRST = "compensated_first"
State = Operation.State

OPEN = """
WITH lock AS MATERIALIZED (
    SELECT bool_and(pg_try_advisory_xact_lock(number)) AS held FROM unnest(%s::bigint[]) AS number
), fresh AS (
    INSERT INTO {table} (key, name, fingerprint, compensates, state, http_status, answer, saga_id, step)
    SELECT entry.key, entry.name, entry.fingerprint, entry.compensates, entry.state, 0, '',
           %s::text, %s::text
      FROM lock, unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
           AS entry (key, name, fingerprint, compensates, state)
     WHERE lock.held
    ON CONFLICT (key) DO NOTHING
    RETURNING key
)
SELECT lock.held, ARRAY(SELECT key FROM fresh) FROM lock
"""
CLOSE = "UPDATE {table} SET state = %s, http_status = %s, answer = %s WHERE key = %s"
HELD = """
SELECT EXISTS (
    SELECT FROM pg_locks
     WHERE locktype = 'advisory' AND granted AND objsubid = 1
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND (classid::bigint << 32 | objid::bigint) = %s::bigint
)
"""


class NotProcessed(Exception):
    """The database failed while the transaction was still open, so nothing took effect.

    `lost` tells that the connection itself is gone.
    """

    def __init__(self, reason: str, *, lost: bool) -> None:
        super().__init__(reason)
        self.lost = lost


@contextmanager
def unprocessed(service: str) -> Iterator[None]:
    """Turns a failure of the database into NotProcessed; never put it around a commit."""
    try:
        yield
    except (OperationalError, InterfaceError) as failure:
        # Looked at here, because leaving the transaction already connects anew.
        link = connections[service].connection
        raise NotProcessed(str(failure), lost=link is None or link.closed) from failure


@contextmanager
def connected(service: str) -> Iterator[None]:
    """Connects first, so that a failure to connect is told from one at commit."""
    with unprocessed(service):
        connections[service].ensure_connection()
    yield


@dataclass(frozen=True, slots=True)
class Opened:
    """What the opening statement found: the lock held or not, and the keys that were new."""

    held: bool
    fresh: Sequence[str]


def records(service: str) -> Manager[Operation]:
    """The participant's own table of operations."""
    return cast(type[Operation], apps.get_model(service, "Operation"))._default_manager


def perform(
    service: str, operation: Action | Compensation, call: Call, forced: Refused | None = None
) -> Answer:
    """Do it, or replay what was answered before; commits effect, key and answer together.

    `forced` is refused in place of the effect, unless the key was settled before. Raises
    NotProcessed if the database failed before the commit was asked for.
    """
    try:
        with connected(service), transaction.atomic(using=service), unprocessed(service):
            if forced is not None:
                return _keep_refusal(service, operation, call, forced)
            return _perform(service, operation, call)
    except Refused as refused:
        # What the operation wrote is rolled back by now; the refusal itself is still to be kept.
        with connected(service), transaction.atomic(using=service), unprocessed(service):
            return _keep_refusal(service, operation, call, refused)


def _perform(service: str, operation: Action | Compensation, call: Call) -> Answer:
    opened = _open(service, operation, call)
    if not opened.held:
        return _in_progress()
    if call.key not in opened.fresh:
        return _replay(service, operation, call)
    if isinstance(operation, Action):
        outcome = run(operation.body, operation.effect, call)
        return _settle(service, call, outcome, operation.success_status)
    if call.compensates in opened.fresh:
        return _settle(service, call, {NOTHING_TO_UNDO: "never_applied"})
    return _undo(service, operation, call)


def _keep_refusal(service: str, operation: Action | Compensation, call: Call, refused: Refused) -> Answer:
    """Commit a refusal under its key, unless another call settled the key in between."""
    opened = _open(service, operation, call)
    if not opened.held:
        return _in_progress()
    if call.key not in opened.fresh:
        return _replay(service, operation, call)
    return _settle(service, call, refused)


def _open(service: str, operation: Action | Compensation, call: Call) -> Opened:
    """Lock the keys and insert their rows, in one statement."""
    entries = [(call.key, operation.name, call.fingerprint, call.compensates, State.STARTED.value)]
    if isinstance(operation, Compensation):
        entries.append((call.compensates, operation.undoes, "", "", State.TOMBSTONE.value))
    columns = [list(column) for column in zip(*entries, strict=True)]
    locks = sorted(lock_number(entry[0]) for entry in entries)
    with connections[service].cursor() as cursor:
        cursor.execute(_sql(service, OPEN), [locks, call.saga_id, call.step, *columns])
        held, fresh = cast(tuple[bool, list[str]], cursor.fetchone())
    return Opened(held, fresh)


def run(model: type[Body], effect: Effect[Any], call: Call) -> Outcome:
    """Validate the request and run the effect; an invalid one is a refusal like any other."""
    try:
        body = model.model_validate(request_data(call))
    except ValueError as invalid:
        return invalid_request(invalid)
    return effect(body, call)


def request_data(call: Call) -> object:
    """The fields of the request: those of the JSON body, and over them path and query."""
    document: object = orjson.loads(call.body) if call.body else {}
    if not call.parameters:
        return document
    return {**(document if isinstance(document, dict) else {}), **call.parameters}


def invalid_request(invalid: ValueError) -> Refused:
    """Names the first field that is wrong."""
    if isinstance(invalid, ValidationError):
        first = invalid.errors(include_url=False, include_input=False, include_context=False)[0]
        path = ".".join(str(part) for part in first["loc"]) or "body"
        return unprocessable("invalid_request", f"{path}: {first['msg']}")
    return unprocessable("invalid_request", "body: not valid JSON")


def _undo(service: str, operation: Compensation, call: Call) -> Answer:
    action = records(service).get(key=call.compensates)
    if action.name != operation.undoes:
        return _mismatch(
            service, f"{call.compensates} is a {action.name}, which {operation.name} does not undo."
        )
    if action.state == State.COMPLETED:
        outcome = operation.undo(_result(action), call)
        if not isinstance(outcome, Refused):
            records(service).filter(pk=action.pk).update(state=State.UNDONE)
        return _settle(service, call, outcome)
    reason = {State.REFUSED: "refused", State.UNDONE: "already_undone"}.get(
        State(action.state), "never_applied"
    )
    return _settle(service, call, {NOTHING_TO_UNDO: reason})


def _settle(service: str, call: Call, outcome: Outcome, success_status: int = HTTPStatus.OK) -> Answer:
    """Write the answer into the key's row and return it."""
    if isinstance(outcome, Refused):
        state, answer = State.REFUSED, refusal(outcome)
    else:
        state, answer = State.COMPLETED, success(outcome, success_status)
    with connections[service].cursor() as cursor:
        cursor.execute(_sql(service, CLOSE), [state.value, answer.status, answer.body.decode(), call.key])
    return answer


def _replay(service: str, operation: Action | Compensation, call: Call) -> Answer:
    """The stored answer of a key that was used before, if the request is the same."""
    record = records(service).get(key=call.key)
    if record.name != operation.name or record.compensates != call.compensates:
        return _mismatch(service, f"The key belongs to a call of {record.name}.")
    if record.state == State.TOMBSTONE:
        return refusal(compensated_first())
    if record.fingerprint != call.fingerprint:
        return _mismatch(service, "The key was used with another request.")
    return Answer(record.http_status, record.answer.encode(), {"Idempotency-Replayed": "true"})


def status_of(service: str, key: str) -> Result | None:
    """What became of a key at this participant; None if it does not know the key."""
    record = records(service).filter(key=key).first()
    if record is None and _is_held(service, key):
        return {"state": "in_progress"}
    # A transaction that ended between the two looks has its row committed by now.
    record = record or records(service).filter(key=key).first()
    return None if record is None else describe(record)


def describe(record: Operation) -> Result:
    """A settled key as the status query tells it."""
    if record.state == State.TOMBSTONE:
        refused = compensated_first()
        return {
            "state": "failed",
            "operation": record.name,
            "code": refused.code,
            "reason": refused.reason,
        }
    if record.state == State.REFUSED:
        answer = orjson.loads(record.answer)
        return {
            "state": "failed",
            "operation": record.name,
            "code": answer["code"],
            "reason": answer["reason"],
        }
    return {
        "state": "completed",
        "operation": record.name,
        "undone": record.state == State.UNDONE,
        "result": _result(record),
    }


def compensated_first() -> Refused:
    """The refusal of an action whose compensation came before it."""
    return Refused(COMPENSATED_FIRST, "This action was compensated before it arrived.")


def lock_number(key: str) -> int:
    """The number under which a key is locked; two keys share one about never, and then only wait."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), signed=True)


def _is_held(service: str, key: str) -> bool:
    with connections[service].cursor() as cursor:
        cursor.execute(HELD, [lock_number(key)])
        return bool(cast(tuple[bool], cursor.fetchone())[0])


def _result(record: Operation) -> Recorded:
    return cast(Recorded, orjson.loads(record.answer)["data"])


def _in_progress() -> Answer:
    return error(
        HTTPStatus.TOO_EARLY, "in_progress", "A call with this key is being processed.", Retry_After="1"
    )


def _mismatch(service: str, reason: str) -> Answer:
    # Nothing may stay: rows just inserted belong to a call that makes no sense.
    transaction.set_rollback(True, using=service)
    return refusal(unprocessable("key_mismatch", reason))


def _sql(service: str, statement: str) -> str:
    return statement.format(table=records(service).model._meta.db_table)
