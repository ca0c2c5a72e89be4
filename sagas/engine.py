"""The only writer of saga state: start, claim, record, and what people and scans decide.

Every transition is one statement in autocommit: it locks the saga row first, is guarded, writes
saga, steps and audit together, and says whether it took hold. A guard that fails is an answer:
the state is read afresh and the decision made again.

Times are the database's. Each statement brings the server's clock back; between statements it is
carried on by this process's monotonic clock, so a worker's wall clock is never asked (rule 3).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, OperationalError, connection
from django.db.utils import InterfaceError
from uuid_utils.compat import uuid7

from sagas import interventions, logs, metrics, remote
from sagas.conf import conf
from sagas.definition import SagaDefinition, plain, registry
from sagas.errors import Contended, IdempotencyConflict, SagaNotFound
from sagas.transitions import (
    ACTIVE,
    Decision,
    Done,
    Effect,
    Entry,
    Event,
    LeaseExpired,
    Nothing,
    Outcome,
    Overdue,
    Recorded,
    Refused,
    Rung,
    SagaState,
    Status,
    StepState,
    StepStatus,
    Unknown,
    begin,
    claimed,
    decide,
    idempotency_key,
    wake_at,
)

TRIES = 20

# --- Statements ---------------------------------------------------------------------------------------
# In SQL because each transition must be one round trip and one snapshot; column lists come from the
# dataclasses of `transitions`, so state and table cannot drift apart.

STEP_TYPES = {
    "status": "text", "effect": "text", "generation": "int", "attempts": "int", "crashes": "int",
    "forgiven": "int", "sequence": "int", "due_at": "timestamptz", "lease_until": "timestamptz",
    "request": "jsonb", "result": "jsonb", "error": "jsonb", "started_at": "timestamptz",
    "finished_at": "timestamptz", "undo_generation": "int", "undo_attempts": "int", "undo_crashes": "int",
    "undo_forgiven": "int", "undo_request": "jsonb", "undo_error": "jsonb",
    "undo_started_at": "timestamptz", "undo_finished_at": "timestamptz",
}  # fmt: skip
STEP_FIELDS = tuple(f.name for f in fields(StepState))
SAGA_FIELDS = tuple(f.name for f in fields(SagaState) if f.name != "steps")
_RECORDSET = ", ".join(["position int", "name text", *(f"{c} {t}" for c, t in STEP_TYPES.items())])
_STEPS_JSON = (
    "(SELECT json_agg(json_build_array("
    + ", ".join(f"t.{name}" for name in STEP_FIELDS)
    + ") ORDER BY t.position)::text FROM sagas_sagastep t WHERE t.saga_id = {saga}.id)"
)
_SAGA_JSON = "json_build_array(" + ", ".join(f"{{saga}}.{name}" for name in SAGA_FIELDS) + ")::text"
_AUDIT = """
    INSERT INTO sagas_sagaevent (saga_id, at, kind, step, epoch, attempt, detail, actor, reason, request_id)
    SELECT saga.id, clock_timestamp(), a.kind, a.step, saga.epoch, a.attempt, a.detail, a.actor, a.reason,
           a.request_id
    FROM saga, jsonb_to_recordset(%s::jsonb) AS a(kind text, step text, attempt int, detail jsonb,
                                                  actor text, reason text, request_id text)"""

INSERT = f"""
WITH saga AS (
    INSERT INTO sagas_saga (id, type, version, status, epoch, rev, sequence, rings, extensions, data,
        result, error, correlation_id, owner_id, idempotency_key, fingerprint, created_at, started_at,
        finished_at, deadline_at, wake_at)
    VALUES (%s, %s, %s, %s, 0, 0, 0, 0, 0, %s::jsonb, %s::jsonb, %s::jsonb, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT DO NOTHING
    RETURNING id, epoch
), steps AS (
    INSERT INTO sagas_sagastep (saga_id, position, name, {", ".join(STEP_TYPES)})
    SELECT saga.id, x.position, x.name, {", ".join(f"x.{c}" for c in STEP_TYPES)}
    FROM saga, jsonb_to_recordset(%s::jsonb) AS x({_RECORDSET})
), audit AS ({_AUDIT})
SELECT clock_timestamp(), (SELECT count(*) FROM saga)"""  # noqa: S608  names from our own dataclasses

APPLY = f"""
WITH saga AS (
    UPDATE sagas_saga SET status = %s, epoch = %s, rev = %s, sequence = %s, rings = %s, extensions = %s,
        result = %s::jsonb, error = %s::jsonb, paused_at = %s, started_at = %s, finished_at = %s,
        deadline_at = %s, wake_at = %s
    WHERE id = %s AND rev = %s
    RETURNING id, epoch
), steps AS (
    UPDATE sagas_sagastep t SET {", ".join(f"{c} = x.{c}" for c in STEP_TYPES)}
    FROM saga, jsonb_to_recordset(%s::jsonb) AS x({_RECORDSET})
    WHERE t.saga_id = saga.id AND t.position = x.position
), audit AS ({_AUDIT})
SELECT clock_timestamp(), (SELECT count(*) FROM saga)"""  # noqa: S608

# Everything the decision after the call needs comes back with the claim. `seen` is the revision in the
# statement's snapshot: if the lock was waited for, it is older than the locked row's, and so are the
# siblings' rows beside it; then the state is read again (READ COMMITTED, PostgreSQL manual 13.2.1).
CLAIM = f"""
WITH locked AS MATERIALIZED (
    SELECT * FROM sagas_saga
    WHERE id = %s AND epoch = %s AND status IN ('pending', 'in_progress', 'compensating')
      AND paused_at IS NULL
    FOR NO KEY UPDATE
), step AS (
    UPDATE sagas_sagastep t SET
        status = CASE WHEN l.status = 'compensating' THEN 'compensating' ELSE 'in_progress' END,
        attempts = t.attempts + (l.status <> 'compensating')::int,
        undo_attempts = t.undo_attempts + (l.status = 'compensating')::int,
        started_at = CASE WHEN l.status = 'compensating' THEN t.started_at
                          ELSE coalesce(t.started_at, clock_timestamp()) END,
        undo_started_at = CASE WHEN l.status = 'compensating'
                               THEN coalesce(t.undo_started_at, clock_timestamp()) END,
        due_at = NULL,
        lease_until = clock_timestamp() + make_interval(secs => %s)
    FROM locked l
    WHERE t.saga_id = l.id AND t.position = %s AND t.due_at <= clock_timestamp()
    RETURNING t.saga_id, t.name, t.status, t.attempts, t.undo_attempts
), saga AS (
    UPDATE sagas_saga s SET rev = s.rev + 1, started_at = coalesce(s.started_at, clock_timestamp()),
        status = CASE WHEN s.status = 'pending' THEN 'in_progress' ELSE s.status END
    FROM step WHERE s.id = step.saga_id
), audit AS (
    INSERT INTO sagas_sagaevent (saga_id, at, kind, step, epoch, attempt, detail, actor, reason)
    SELECT l.id, clock_timestamp(),
           CASE WHEN l.status = 'compensating' THEN 'compensation_claimed' ELSE 'step_claimed' END,
           step.name, l.epoch,
           CASE WHEN l.status = 'compensating' THEN step.undo_attempts ELSE step.attempts END, '{{}}', '', ''
    FROM locked l, step
)
SELECT clock_timestamp(), (SELECT rev FROM sagas_saga WHERE id = locked.id) AS seen,
       {_SAGA_JSON.format(saga="locked")}, {_STEPS_JSON.format(saga="locked")}
FROM locked, step"""  # noqa: S608

LOAD = f"""
SELECT clock_timestamp(), {_SAGA_JSON.format(saga="s")}, {_STEPS_JSON.format(saga="s")}
FROM sagas_saga s WHERE s.id = %s"""  # noqa: S608

# The scan takes sagas by moving their wake-up time on: two scans share the work, and one that dies
# leaves them to be found again. Nothing a decision rests on is touched (rules 19, 21).
TAKE = """
UPDATE sagas_saga SET wake_at = clock_timestamp() + make_interval(secs => %s)
WHERE id IN (
    SELECT id FROM sagas_saga
    WHERE status = ANY(%s) AND status IN ('pending', 'in_progress', 'compensating')
      AND {due} <= clock_timestamp() AND paused_at IS NULL AND (type, version) IN (SELECT * FROM unnest(%s::text[], %s::int[]))
    ORDER BY {due} LIMIT %s FOR NO KEY UPDATE SKIP LOCKED)
RETURNING id"""


class Clock:
    """The database's clock as last heard, carried on by the monotonic one."""

    def __init__(self) -> None:
        self._heard: datetime | None = None
        self._at = 0.0

    def hear(self, now: datetime) -> datetime:
        """Take over a server timestamp that has just arrived."""
        self._heard, self._at = now, time.monotonic()
        return now

    def now(self) -> datetime:
        """The database's time, never ahead of it; the first call of a process asks the server."""
        if self._heard is None:
            return self.hear(_query("SELECT clock_timestamp()", ())[0][0])
        return self._heard + timedelta(seconds=time.monotonic() - self._at)


clock = Clock()


def _query(sql: str, params: Sequence[Any]) -> list[Any]:
    """Run one statement; a broken connection is closed, so that the next statement opens a new one."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql, params)
            return cursor.fetchall()
    except (OperationalError, InterfaceError):
        if not connection.in_atomic_block:
            connection.close()
        raise


def _default(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, default=_default)


def _steps_param(steps: Sequence[StepState]) -> str:
    return json.dumps([{n: getattr(step, n) for n in STEP_FIELDS} for step in steps], default=_default)


def _audit_param(entries: Sequence[Entry]) -> str:
    return json.dumps([{n: getattr(e, n) for n in Entry.__slots__} for e in entries], default=_default)


def _time(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)


_STEP_TIMES = frozenset(name for name, kind in STEP_TYPES.items() if kind == "timestamptz")
_SAGA_TIMES = frozenset({"paused_at", "created_at", "started_at", "finished_at", "deadline_at"})


def _state(saga: str, steps: str) -> SagaState:
    rows = []
    for values in json.loads(steps):
        row = {n: _time(v) if n in _STEP_TIMES else v for n, v in zip(STEP_FIELDS, values, strict=True)}
        row["status"], row["effect"] = StepStatus(row["status"]), Effect(row["effect"])
        rows.append(StepState(**row))
    known = {
        n: _time(v) if n in _SAGA_TIMES else v for n, v in zip(SAGA_FIELDS, json.loads(saga), strict=True)
    }
    known["id"], known["status"] = UUID(known["id"]), Status(known["status"])
    return SagaState(**known, steps=tuple(rows))


# --- Reading ------------------------------------------------------------------------------------------


def load(saga_id: UUID) -> SagaState:
    """The saga with its steps as committed now.

    Raises:
        SagaNotFound: there is none.
    """
    rows = _query(LOAD, (saga_id,))
    if not rows:
        raise SagaNotFound(f"there is no saga {saga_id}")
    now, saga, steps = rows[0]
    clock.hear(now)
    return _state(saga, steps)


# --- Starting -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """A saga that was started now, or earlier under the same idempotency key (`repeated`)."""

    state: SagaState
    repeated: bool = False


def start(
    saga_type: str,
    data: Any,
    *,
    idempotency_key: str | None = None,
    owner_id: int | None = None,
    actor: str = "",
    correlation_id: str | None = None,
    execute: bool = True,
    version: int | None = None,
) -> Started:
    """Store a new saga in one statement; the caller rings for it (`dispatch.ring`) after commit.

    Under an idempotency key the same request of the same owner yields the same saga.

    Raises:
        UnknownSagaType: no such definition.
        InvalidInput: `data` does not fit it.
        IdempotencyConflict: the key was used with another request.
    """
    definition = registry.latest(saga_type) if version is None else registry.get(saga_type, version)
    clean = plain(definition.parse(data))
    saga_id = uuid7()
    print_ = hashlib.sha256(
        json.dumps([saga_type, clean, execute], sort_keys=True).encode()
    ).hexdigest()
    decision = begin(
        definition, saga_id, clean, correlation_id or str(saga_id), clock.now(),
        execute=execute, entry=Entry("saga_started", actor=actor),
    )  # fmt: skip
    if _insert(decision, owner_id, idempotency_key, print_):
        metrics.started(saga_type)
        logs.saga("saga started", decision.state)
        return Started(decision.state)
    # A concurrent start with this key may have been invisible to that statement: look in a second one.
    rows = _query(
        "SELECT id, fingerprint FROM sagas_saga WHERE idempotency_key = %s AND owner_id IS NOT DISTINCT FROM %s::int",
        (idempotency_key, owner_id),
    )
    if rows[0][1] != print_:
        raise IdempotencyConflict(f"the idempotency key {idempotency_key!r} was used with another request")
    return Started(load(rows[0][0]), repeated=True)


def _insert(decision: Decision, owner_id: int | None, key: str | None, print_: str) -> bool:
    s = decision.state
    rows = _query(INSERT, (
        s.id, s.type, s.version, s.status, _json(s.data), _json(s.result), _json(s.error), s.correlation_id,
        owner_id, key, print_, s.created_at, s.started_at, s.finished_at, s.deadline_at,
        wake_at(s, conf().ring_after), _steps_param(s.steps), _audit_param(decision.audit),
    ))  # fmt: skip
    clock.hear(rows[0][0])
    return bool(rows[0][1])


# --- Applying decisions ------------------------------------------------------------------------------


def apply(decision: Decision) -> bool:
    """Make a decision true; False if the saga is no longer at the revision it was made for."""
    s = decision.state
    rows = _query(APPLY, (
        s.status, s.epoch, s.rev, s.sequence, s.rings, s.extensions, _json(s.result), _json(s.error),
        s.paused_at, s.started_at, s.finished_at, s.deadline_at, wake_at(s, conf().ring_after),
        s.id, decision.guard,
        _steps_param([s.steps[p] for p in decision.changed]), _audit_param(decision.audit),
    ))  # fmt: skip
    clock.hear(rows[0][0])
    return bool(rows[0][1])


Decider = Callable[[SagaState, datetime], Decision | Nothing]


def _settle(state: SagaState, decider: Decider) -> Decision | Nothing:
    """Decide and apply until it takes hold or there is nothing to do.

    Raises:
        Contended: it lost the race `TRIES` times.
    """
    for _ in range(TRIES):
        decision = decider(state, clock.now())
        if isinstance(decision, Nothing):
            return decision
        if apply(decision):
            metrics.decided(state, decision)
            logs.decided(decision)
            return decision
        state = load(state.id)
    raise Contended(f"saga {state.id} changed {TRIES} times while it was being decided on; try again")


# --- Working ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Progress:
    """What a worker's attempt came to: the saga as it stands, and what is due next because of it."""

    state: SagaState | None
    due: tuple[int, ...] = ()


def claim(saga_id: UUID, position: int, epoch: int, lease: timedelta) -> SagaState | None:
    """Claim a due step (rule 4); None if there is nothing to claim, for whatever reason."""
    rows = _query(CLAIM, (saga_id, epoch, lease.total_seconds(), position))
    if not rows:
        return None
    now, seen, saga, steps = rows[0]
    clock.hear(now)
    before = _state(saga, steps)
    if seen != before.rev:
        return load(saga_id)
    return claimed(before, position, now, lease)


def advance(definition: SagaDefinition, saga_id: UUID, position: int, epoch: int) -> Progress:
    """Claim one step, act, record: the work of one message, in either direction."""
    declared = definition.steps[position]
    timeout = max(declared.timeout, declared.undo.timeout if declared.undo else timedelta(0))
    began = time.monotonic()
    state = claim(saga_id, position, epoch, timeout + conf().lease_margin)
    if state is None:
        return Progress(None)
    outcome = act(definition, state, position)
    metrics.called(state, position, time.monotonic() - began)
    return record(definition, state, position, outcome)


def act(definition: SagaDefinition, state: SagaState, position: int) -> Outcome:
    """Send the claimed step's stored request; no transaction is open (rule 5)."""
    declared, step = definition.steps[position], state.steps[position]
    backward = state.backward
    request = step.undo_request if backward else step.request
    assert request is not None
    if "value" in request:
        return Done(request["value"])
    undo = declared.undo if backward else None
    envelope = remote.Envelope(
        saga_id=state.id,
        step=undo.name if undo else declared.name,
        key=idempotency_key(state.id, step, backward=backward),
        correlation_id=state.correlation_id,
        timeout=undo.timeout if undo else declared.timeout,
        compensates=idempotency_key(state.id, step, backward=False) if backward else None,
    )
    return remote.perform(request, envelope)


def record(definition: SagaDefinition, state: SagaState, position: int, outcome: Outcome) -> Progress:
    """Write down what became of a claimed attempt, and what follows (rule 6)."""
    step, backward = state.steps[position], state.backward
    attempt, generation = (
        (step.undo_attempts, step.undo_generation) if backward else (step.attempts, step.generation)
    )
    event = Recorded(position, backward, generation, attempt, outcome)
    try:
        decision = _settle(state, lambda known, now: decide(definition, known, event, now))
    except (OperationalError, InterfaceError):
        # The commit's answer was lost, or the server restarts: read back by attempt, never write blind.
        decision = _settle(load(state.id), lambda known, now: decide(definition, known, event, now))
    if isinstance(decision, Nothing):
        fresh = load(state.id)
        return Progress(fresh, due_positions(fresh) if fresh.epoch == state.epoch else ())
    return Progress(decision.state, decision.due)


def due_positions(state: SagaState) -> tuple[int, ...]:
    """The steps that may be claimed now or after a pause."""
    if state.status not in ACTIVE or state.paused_at is not None:
        return ()
    return tuple(step.position for step in state.steps if step.due_at is not None)


# --- What people decide ---------------------------------------------------------------------------


def execute(saga_id: UUID, *, actor: str, reason: str = "", request_id: str | None = None) -> Progress:
    """Start a saga that was created with `execute=False`; otherwise answer its state."""
    return _intervene(saga_id, interventions.execute, "execute", actor, reason, request_id)


def compensate(saga_id: UUID, *, actor: str, reason: str, request_id: str | None = None) -> Progress:
    """Undo a running, parked or completed saga.

    Raises:
        SagaNotFound: there is none.
        NotAllowed: its state forbids it (past its pivot, nothing to undo).
    """
    return _intervene(saga_id, interventions.compensate, "compensate", actor, reason, request_id)


def retry(saga_id: UUID, *, actor: str, reason: str, request_id: str | None = None) -> Progress:
    """Let a saga go on that failed, is parked, or waits for its next attempt.

    Raises:
        SagaNotFound: there is none.
        NotAllowed: its state forbids it.
    """
    return _intervene(saga_id, interventions.retry, "retry", actor, reason, request_id)


Intervention = Callable[[SagaDefinition, SagaState, Entry, datetime], Decision | Nothing]


def _intervene(
    saga_id: UUID, verb: Intervention, kind: str, actor: str, reason: str, request_id: str | None
) -> Progress:
    state = load(saga_id)
    if request_id is not None and _asked_before(saga_id, request_id):
        return Progress(state)
    definition = registry.get(state.type, state.version)
    who = interventions.entry(kind, actor, reason, request_id)
    try:
        decision = _settle(state, lambda known, now: verb(definition, known, who, now))
    except IntegrityError:  # the same request id, committed a moment ago by another
        return Progress(load(saga_id))
    if isinstance(decision, Nothing):
        return Progress(load(saga_id))
    return Progress(decision.state, due_positions(decision.state))


def _asked_before(saga_id: UUID, request_id: str) -> bool:
    sql = "SELECT 1 FROM sagas_sagaevent WHERE saga_id = %s AND request_id = %s"
    return bool(_query(sql, (saga_id, request_id)))


# --- What scans decide --------------------------------------------------------------------------------


def take_interrupted(limit: int) -> list[UUID]:
    """Up to `limit` sagas whose wake-up time has passed, taken for a while by this scan."""
    return _take("wake_at", sorted(ACTIVE), limit)


def take_overdue(limit: int) -> list[UUID]:
    """Up to `limit` sagas on their way forward whose deadline has passed, taken likewise."""
    return _take("deadline_at", [Status.PENDING, Status.IN_PROGRESS], limit)


def _take(column: str, statuses: Sequence[Status], limit: int) -> list[UUID]:
    served = sorted(registry.by_key)
    hold = conf().ring_after.total_seconds()
    types, versions = [t for t, _ in served], [v for _, v in served]
    params = (hold, [s.value for s in statuses], types, versions, limit)
    return [row[0] for row in _query(TAKE.format(due=column), params)]


def resume(saga_id: UUID) -> Progress:
    """Repair what the fast path lost: settle claims whose lease ran out, and ring for what is due."""
    state = load(saga_id)
    definition = registry.get(state.type, state.version)
    for step in state.steps:
        if step.lease_until is not None and step.lease_until <= clock.now():
            state = _event(definition, state, LeaseExpired(step.position, _learn(state, step)))
    if due_positions(state):
        state = _event(definition, state, Rung())
    return Progress(state, due_positions(state))


def expire(saga_id: UUID) -> Progress:
    """Extend an overdue saga's deadline and retry now, or turn it (rule 20)."""
    state = load(saga_id)
    definition = registry.get(state.type, state.version)
    state = _event(definition, state, Overdue())
    return Progress(state, due_positions(state))


def _event(definition: SagaDefinition, state: SagaState, event: Event) -> SagaState:
    settled = _settle(state, lambda known, now: decide(definition, known, event, now))
    return settled.state if isinstance(settled, Decision) else load(state.id)


def _learn(state: SagaState, step: StepState) -> Done | Refused | None:
    """What the participant knows of a claimed step whose worker was lost; None if it cannot tell."""
    backward = step.status is StepStatus.COMPENSATING
    request = step.undo_request if backward else step.request
    if request is None or "participant" not in request:
        return None
    learnt = remote.ask(request["participant"], idempotency_key(state.id, step, backward=backward))
    return None if isinstance(learnt, Unknown) else learnt


def beat(name: str, detail: dict[str, Any] | None = None) -> None:
    """Note that a periodic job has just done its work; the age of the row is what is watched."""
    _query(
        """INSERT INTO sagas_heartbeat (name, at, detail) VALUES (%s, clock_timestamp(), %s::jsonb)
           ON CONFLICT (name) DO UPDATE SET at = excluded.at, detail = excluded.detail RETURNING 1""",
        (name, _json(detail or {})),
    )
