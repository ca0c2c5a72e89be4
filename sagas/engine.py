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
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.utils import InterfaceError
from uuid_utils.compat import uuid7

from sagas import breaker, foresight, interventions, logs, metrics, remote, sql
from sagas.claims import claim_next, claimed, resume_at, wake_at
from sagas.clock import clock as clock  # who drives the engine asks it for the time
from sagas.conf import conf
from sagas.definition import SagaDefinition, registry
from sagas.errors import Contended, IdempotencyConflict, LockHeld, NotAllowed, SagaNotFound
from sagas.facts import CHANGED, fits, undo_set
from sagas.foresight import Foreseen
from sagas.interventions import Wish
from sagas.rows import (
    RECORDSET,
    SAGA_JSON,
    STEP_TYPES,
    STEPS_JSON,
    audit_json,
    dumps,
    jsons,
    read_state,
    steps_json,
    times,
)
from sagas.state import (
    ACTIVE,
    FINISHED,
    CachedResult,
    Decision,
    Done,
    Entry,
    Event,
    LockGranted,
    Nothing,
    Outcome,
    Recorded,
    Refused,
    Resolved,
    SagaState,
    Signalled,
    Status,
)
from sagas.transitions import begin, decide

TRIES = 50
LOCK_CONSTRAINT = "lock_held_once"

# --- Statements ---------------------------------------------------------------------------------------
# In SQL because each transition must be one round trip and one snapshot; columns are those of `rows`.

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
        finished_at, deadline_at, wake_at, resume_at, waiting_since, mailbox, parent_id, lock_key)
    VALUES (%s, %s, %s, %s, %s, %s, %s, 0, 0, %s::jsonb, %s::jsonb, %s::jsonb, %s, %s, %s, %s, %s, %s, %s,
            %s, %s, %s, %s, '[]', %s, %s)
    ON CONFLICT DO NOTHING
    RETURNING id, epoch
), steps AS (
    INSERT INTO sagas_sagastep (saga_id, position, name, {", ".join(STEP_TYPES)})
    SELECT saga.id, x.position, x.name, {", ".join(f"x.{c}" for c in STEP_TYPES)}
    FROM saga, jsonb_to_recordset(%s::jsonb) AS x({RECORDSET})
), audit AS ({_AUDIT})"""  # noqa: S608  names from our own dataclasses

APPLY = f"""
WITH saga AS (
    UPDATE sagas_saga SET status = %s, epoch = %s, rev = %s, sequence = %s, rings = %s, extensions = %s,
        result = %s::jsonb, error = %s::jsonb, paused_at = %s, started_at = %s, finished_at = %s,
        deadline_at = %s, wake_at = %s, resume_at = %s, waiting_since = %s, mailbox = %s::jsonb,
        retreat_to = %s
    WHERE id = %s AND rev = %s
    RETURNING id, epoch
), steps AS (
    UPDATE sagas_sagastep t SET {", ".join(f"{c} = x.{c}" for c in STEP_TYPES)}
    FROM saga, jsonb_to_recordset(%s::jsonb) AS x({RECORDSET})
    WHERE t.saga_id = saga.id AND t.position = x.position
), audit AS ({_AUDIT})"""  # noqa: S608  as above
APPLIED = "\nSELECT clock_timestamp(), (SELECT count(*) FROM saga)"
# A lock never outlives its saga: it goes in the statement that ends the saga.
UNLOCK = "\n, unlocked AS (DELETE FROM sagas_sagalock k USING saga WHERE k.saga_id = saga.id)"
# Others must be kept out in one statement with the decision, so that a lock that is taken has a saga that
# will give it back: before a finished saga is undone or run again, and where the second is to be refused.
LOCK = """
, locked AS (
    INSERT INTO sagas_sagalock (key, saga_id, held, since)
    SELECT %s, saga.id, true, clock_timestamp() FROM saga
    ON CONFLICT (saga_id) DO UPDATE SET held = true)"""

# The step's saga is named twice: a plan made while the tables are empty, and kept, would otherwise read
# all steps for want of a constant to look up.
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
    WHERE t.saga_id = l.id AND t.saga_id = %s AND t.position = %s AND t.due_at <= clock_timestamp()
    RETURNING t.saga_id, t.name, t.status, t.generation, t.attempts, t.undo_generation, t.undo_attempts
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
       concat_ws(':', step.generation, step.attempts, step.undo_generation, step.undo_attempts),
       {SAGA_JSON.format(saga="locked")}, {STEPS_JSON.format(saga="locked")}
FROM locked, step"""  # noqa: S608  as above

LOAD = f"""
SELECT clock_timestamp(), {SAGA_JSON.format(saga="s")}, {STEPS_JSON.format(saga="s")}
FROM sagas_saga s WHERE s.id = %s"""  # noqa: S608  as above

# The scan takes sagas by moving their wake-up time on: two scans share the work, and one that dies
# leaves them to be found again. Nothing a decision rests on is touched (rules 19, 21). What a scan has
# looked at it leaves out by id: a saga that cannot be mended stays due, and would come first each time.
TAKE = """
UPDATE sagas_saga SET wake_at = clock_timestamp() + make_interval(secs => %s)
WHERE id IN (
    SELECT id FROM sagas_saga
    WHERE status = ANY(%s) AND status IN ('pending', 'in_progress', 'compensating')
      AND {due} <= clock_timestamp() AND paused_at IS NULL AND id <> ALL(%s::uuid[])
      AND (type, version) IN (SELECT * FROM unnest(%s::text[], %s::int[]))
    ORDER BY {due} LIMIT %s FOR NO KEY UPDATE SKIP LOCKED)
RETURNING id"""

# The time is that of the statement here, since an index is not searched by a time that may change.
TAKE_WAITING = """
UPDATE sagas_saga SET resume_at = clock_timestamp() + make_interval(secs => %s)
WHERE id IN (
    SELECT id FROM sagas_saga
    WHERE status = 'waiting' AND resume_at <= statement_timestamp() AND paused_at IS NULL
      AND id <> ALL(%s::uuid[])
      AND (type, version) IN (SELECT * FROM unnest(%s::text[], %s::int[]))
    ORDER BY resume_at LIMIT %s FOR NO KEY UPDATE SKIP LOCKED)
RETURNING id"""


PAUSE_TYPE = """
WITH paused AS (
    INSERT INTO sagas_typepause (type, at, actor, reason) VALUES (%s, clock_timestamp(), %s, %s)
    ON CONFLICT (type) DO NOTHING RETURNING type, at, actor, reason)
INSERT INTO sagas_typeevent (type, kind, at, actor, reason)
SELECT type, 'paused', at, actor, reason FROM paused RETURNING 1"""

RESUME_TYPE = """
WITH resumed AS (
    DELETE FROM sagas_typepause WHERE type = %s RETURNING type, at
), moved AS (
    UPDATE sagas_saga s SET wake_at = clock_timestamp(), rings = 0, rev = rev + 1,
        deadline_at = deadline_at + (clock_timestamp() - greatest(resumed.at, s.created_at))
    FROM resumed
    WHERE s.type = resumed.type AND s.status IN ('pending', 'in_progress', 'compensating')
      AND s.paused_at IS NULL AND s.deadline_at IS NOT NULL
    RETURNING s.id, s.status, resumed.at
), counted_anew AS (
    UPDATE sagas_sagastep t SET
        started_at = t.started_at
            + (clock_timestamp() - greatest(m.at, t.started_at)) * (m.status <> 'compensating')::int,
        undo_started_at = t.undo_started_at
            + (clock_timestamp() - greatest(m.at, t.undo_started_at)) * (m.status = 'compensating')::int
    FROM moved m WHERE t.saga_id = m.id AND t.due_at IS NOT NULL
)
INSERT INTO sagas_typeevent (type, kind, at, actor, reason)
SELECT type, 'resumed', clock_timestamp(), %s, %s FROM resumed RETURNING 1"""


CLOSE_CIRCUIT = """
INSERT INTO sagas_circuitevent (participant, at, actor, reason)
VALUES (%s, clock_timestamp(), %s, %s) RETURNING 1"""


def _query(statement: str, params: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
    """Run one statement; a broken connection is closed, so that the next statement opens a new one."""
    try:
        return sql.query(statement, params)
    except (OperationalError, InterfaceError):
        if not connection.in_atomic_block:
            connection.close()
        raise


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
    return read_state(saga, steps)


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
    parent: SagaState | None = None,
) -> Started:
    """Store a new saga in one statement; the caller rings for it (`dispatch.ring`) after commit.

    Under an idempotency key the same request of the same owner yields the same saga.

    Raises:
        UnknownSagaType: no such definition.
        InvalidInput: `data` does not fit it.
        IdempotencyConflict: the key was used with another request.
        LockHeld: another saga holds its lock, and the definition refuses to wait for it.
    """
    definition = registry.latest(saga_type) if version is None else registry.get(saga_type, version)
    parsed, clean = definition.parse(data)
    saga_id = uuid7()
    key = definition.lock_key(parsed)
    if key is not None and parent is not None and _root_holds(parent, key):
        key = None  # re-entrant within one root saga (rule 18)
    decision = begin(
        definition,
        saga_id,
        clean,
        correlation_id or str(saga_id),
        clock.now(),
        entry=Entry("saga_started", actor=actor),
        execute=execute,
        lock_key=key,
        parent_id=parent.id if parent is not None else None,
    )
    asked = json.dumps([saga_type, clean, execute], sort_keys=True).encode()
    fingerprint = hashlib.sha256(asked).hexdigest()
    if not _insert(decision, owner_id, idempotency_key, fingerprint):
        return _started_before(owner_id, idempotency_key, fingerprint)
    metrics.started(saga_type)
    logs.saga("saga started", decision.state)
    return Started(take_lock(decision.state) if decision.state.awaits_lock else decision.state)


def _wake_at(state: SagaState) -> datetime | None:
    return wake_at(state, conf().ring_after, clock.now())


def _insert(decision: Decision, owner_id: int | None, key: str | None, fingerprint: str) -> bool:
    s = decision.state
    params = (
        *(s.id, s.type, s.version, s.status, s.epoch, s.rev, s.sequence),
        *jsons(s.data, s.result, s.error),
        *(s.correlation_id, owner_id, key, fingerprint),
        *times(s.created_at, s.started_at, s.finished_at, s.deadline_at),
        *times(_wake_at(s), resume_at(s), s.waiting_since),
        *(s.parent_id, s.lock_key, steps_json(s.steps), audit_json(decision.audit)),
        *([s.lock_key] if decision.takes_lock else []),
    )
    try:
        with _savepoint() if decision.takes_lock else nullcontext():
            rows = _query(INSERT + (LOCK if decision.takes_lock else "") + APPLIED, params)
    except IntegrityError as error:
        raise _lock_held(s, error) from None
    clock.hear(rows[0][0])
    return bool(rows[0][1])


def _started_before(owner_id: int | None, key: str | None, fingerprint: str) -> Started:
    """A concurrent start with this key may have been invisible to that statement: look in a second."""
    rows = _query(
        "SELECT id, fingerprint FROM sagas_saga"
        " WHERE idempotency_key = %s AND owner_id IS NOT DISTINCT FROM %s::int",
        (key, owner_id),
    )
    if rows[0][1] != fingerprint:
        raise IdempotencyConflict(f"the idempotency key {key!r} was used with another request")
    return Started(load(rows[0][0]), repeated=True)


# --- Applying decisions ------------------------------------------------------------------------------


def apply(decision: Decision) -> bool:
    """Make a decision true; False if the saga is no longer at the revision it was made for.

    Raises:
        LockHeld: it takes a lock that another saga has.
        IntegrityError: an entry's request id is in the audit already.
    """
    s = decision.state
    ends = s.lock_key is not None and s.status in FINISHED
    try:
        with _savepoint():
            rows = _apply(decision, UNLOCK if ends else LOCK if decision.takes_lock else "")
    except IntegrityError as error:
        raise _lock_held(s, error) from None
    clock.hear(rows[0][0])
    return bool(rows[0][1])


def _savepoint() -> AbstractContextManager[Any]:
    """A constraint may refuse a statement, and a caller's transaction must outlive that."""
    return transaction.atomic() if connection.in_atomic_block else nullcontext()


def _apply(decision: Decision, locking: str) -> list[Any]:
    s = decision.state
    return _query(
        APPLY + locking + APPLIED,
        (
            *(s.status, s.epoch, s.rev, s.sequence, s.rings, s.extensions),
            *jsons(s.result, s.error),
            *times(s.paused_at, s.started_at, s.finished_at, s.deadline_at),
            *times(_wake_at(s), resume_at(s), s.waiting_since),
            *(*jsons(s.mailbox), s.retreat_to, s.id, decision.guard),
            *(steps_json([s.steps[p] for p in decision.changed]), audit_json(decision.audit)),
            *([s.lock_key] if decision.takes_lock else []),
        ),
    )


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
    raise _contended(state)


def _contended(state: SagaState) -> Contended:
    return Contended(f"saga {state.id} changed {TRIES} times while it was being decided on; try again")


def happened(state: SagaState, event: Event) -> SagaState:
    """Tell a saga what a scan, a participant or the outside has to say; answers what is true then."""
    definition = registry.get(state.type, state.version)
    settled = _settle(state, lambda known, now: decide(definition, known, event, now))
    return settled.state if isinstance(settled, Decision) else load(state.id)


# --- Working ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a saga stands after a move: what is due because of it, and what was claimed with it."""

    state: SagaState | None
    due: tuple[int, ...] = ()
    claimed: int | None = None


def claim(saga_id: UUID, position: int, epoch: int, lease: timedelta) -> SagaState | None:
    """Claim a due step (rule 4); None if there is nothing to claim, for whatever reason."""
    rows = _query(CLAIM, (saga_id, epoch, lease.total_seconds(), saga_id, position))
    if not rows:
        return None
    now, seen, claim_marks, saga, steps = rows[0]
    clock.hear(now)
    before = read_state(saga, steps)
    if seen == before.rev:
        return claimed(before, position, now, lease)
    # It has waited for the lock: read afresh, and make sure that this claim is still the one that holds.
    state = load(saga_id)
    step = state.steps[position]
    marks = (step.generation, step.attempts, step.undo_generation, step.undo_attempts)
    return state if step.in_flight and ":".join(map(str, marks)) == claim_marks else None


def record(
    definition: SagaDefinition,
    state: SagaState,
    position: int,
    outcome: Outcome,
    *,
    cached: CachedResult | None = None,
    go_on: bool = False,
) -> Progress:
    """Write down what became of a claimed attempt, and what follows (rule 6).

    With `go_on` the same statement claims the step that is due next, if one is (inline mode).
    """
    step = state.steps[position]
    backward = step.undoing
    attempt, generation = (
        (step.undo_attempts, step.undo_generation) if backward else (step.attempts, step.generation)
    )
    event = Recorded(position, backward, generation, attempt, outcome, cached)
    taken: list[int | None] = [None]

    def decider(known: SagaState, now: datetime) -> Decision | Nothing:
        decision = decide(definition, known, event, now)
        taken[0] = None
        if go_on and isinstance(decision, Decision):
            decision, taken[0] = claim_next(definition, decision, now, conf().lease_margin)
        return decision

    try:
        settled = _settle(state, decider)
    except (OperationalError, InterfaceError):
        # The commit's answer was lost, or the server restarts: read back by attempt, never write blind.
        # If it had been written with a claim, nobody works on that; its lease ends and a scan rings.
        go_on = False
        settled = _settle(load(state.id), decider)
    if isinstance(settled, Nothing):
        fresh = load(state.id)
        return Progress(fresh, due_positions(fresh) if fresh.epoch == state.epoch else ())
    return Progress(settled.state, settled.due, taken[0])


def due_positions(state: SagaState) -> tuple[int, ...]:
    """The steps that may be claimed now or after a pause."""
    if state.status not in ACTIVE or state.paused_at is not None:
        return ()
    return tuple(step.position for step in state.steps if step.due_at is not None)


# --- What people decide ---------------------------------------------------------------------------


def intervene(
    saga_id: UUID,
    verb: str,
    *,
    actor: str,
    reason: str = "",
    request_id: str | None = None,
    wish: Wish = Wish(),  # noqa: B008  frozen
) -> Progress:
    """One wish of a person (`interventions.VERBS`), written with who and why; a repeat is harmless.

    Raises:
        SagaNotFound: there is none.
        NotAllowed: its state forbids it; the message says what would be allowed.
    """
    state = load(saga_id)
    if request_id is not None and _asked_before(saga_id, request_id):
        return Progress(state)
    who = Entry(verb, actor=actor, reason=reason, request_id=request_id)
    try:
        settled = _settle(state, lambda known, now: wished(known, verb, wish, who, now))
    except IntegrityError:  # the same request id, committed a moment ago by another
        return Progress(load(saga_id))
    except LockHeld as error:
        raise NotAllowed(str(error)) from None
    if isinstance(settled, Nothing):
        return Progress(load(saga_id))
    state = take_lock(settled.state) if settled.state.awaits_lock else settled.state
    return Progress(state, due_positions(state))


def foresee(saga_id: UUID, verb: str, *, wish: Wish = Wish()) -> Foreseen:  # noqa: B008  frozen
    """What a verb would make of a saga, without doing it.

    Raises:
        SagaNotFound: there is none.
        NotAllowed: its state forbids it.
    """
    state = load(saga_id)
    decision = wished(state, verb, wish, Entry(verb), clock.now())
    if isinstance(decision, Nothing):
        return Foreseen("", f"left {state.status}: {decision.reason}")
    definition, after = registry.get(state.type, state.version), decision.state
    return Foreseen(after.status, foresight.in_words(definition, state, after))


def wished(state: SagaState, verb: str, wish: Wish, who: Entry, now: datetime) -> Decision | Nothing:
    """What a person's wish would lead to, for the saga as it is known now; nothing is written.

    Raises:
        NotAllowed: its state forbids it, it is a child's parent's to ask, its definition has other steps
            by now, or participants may have forgotten its keys.
    """
    interventions.mind_the_parent(state, verb)
    return _mind_keys(state, verb, wish, who, now)


def _mind_keys(state: SagaState, verb: str, wish: Wish, who: Entry, now: datetime) -> Decision | Nothing:
    """Decide, and refuse to undo a finished saga whose keys participants may have forgotten (rule 18).

    It would only be parked at its first undo, and a saga that is well become a person's problem.
    """
    definition = registry.get(state.type, state.version)
    if verb != "resolve" and not fits(definition, state):
        raise NotAllowed(f"{state.type} version {state.version} {CHANGED}")
    decision = interventions.intervene(definition, state, verb, wish, who, now)
    if isinstance(decision, Nothing) or state.status not in FINISHED or not decision.state.backward:
        return decision
    for step in undo_set(definition, decision.state):
        request = step.request or {}
        age = (
            remote.outlived(request["participant"], request["issued_at"], now)
            if "issued_at" in request
            else 0
        )
        if age:
            raise NotAllowed(
                f"{request['participant']} may have forgotten the key of {step.name}, it is {age} days old; "
                "undo by hand what the saga did"
            )
    return decision


def execute(saga_id: UUID, *, actor: str, reason: str = "", request_id: str | None = None) -> Progress:
    """Start a saga that was created with `execute=False`; otherwise answer its state."""
    return intervene(saga_id, "execute", actor=actor, reason=reason, request_id=request_id)


def compensate(saga_id: UUID, *, actor: str, reason: str, request_id: str | None = None) -> Progress:
    """Undo a running, parked or completed saga; see `intervene`."""
    return intervene(saga_id, "compensate", actor=actor, reason=reason, request_id=request_id)


def retry(saga_id: UUID, *, actor: str, reason: str, request_id: str | None = None) -> Progress:
    """Let a saga go on that failed, is parked, or waits for its next attempt; see `intervene`."""
    return intervene(saga_id, "retry", actor=actor, reason=reason, request_id=request_id)


def _asked_before(saga_id: UUID, request_id: str) -> bool:
    statement = "SELECT 1 FROM sagas_sagaevent WHERE saga_id = %s AND request_id = %s"
    return bool(_query(statement, (saga_id, request_id)))


PARENTS_ACTOR = "parent saga"


def child_of(key: str) -> SagaState | None:
    """The child saga that was started under this key; None if it never was."""
    rows = _query("SELECT id FROM sagas_saga WHERE idempotency_key = %s AND owner_id IS NULL", (key,))
    return load(rows[0][0]) if rows else None


def undo_child(state: SagaState, request_id: str) -> Progress:
    """Compensate a child on behalf of its parent; repeating it is harmless.

    Raises:
        NotAllowed: the child cannot be undone any more.
        LockHeld: another saga has the child's lock now.
    """
    who = Entry("compensate", actor=PARENTS_ACTOR, reason="the parent is undone", request_id=request_id)
    if _asked_before(state.id, request_id):
        return Progress(state)
    settled = _settle(state, lambda known, now: _mind_keys(known, "compensate", Wish(), who, now))
    after = settled.state if isinstance(settled, Decision) else load(state.id)
    return Progress(after, due_positions(after))


# --- What the outside says (rule 17) ----------------------------------------------------------------


def signal(saga_id: UUID, name: str, data: Any, *, signal_id: str, actor: str = "") -> Progress:
    """Deliver a signal; under the same id it counts once.

    Raises:
        SagaNotFound: there is none.
        NotAllowed: the saga has ended or is being undone, or its mailbox is full.
    """
    state = load(saga_id)
    if _asked_before(saga_id, f"signal:{signal_id}"):
        return Progress(state)
    return _told(state, Signalled(signal_id, name, data, actor))


def resolved(saga_id: UUID, position: int, generation: int, outcome: Done | Refused) -> Progress:
    """A slow participant calls back with what became of a step; a late word changes nothing.

    Raises:
        SagaNotFound: there is none.
        NotAllowed: the step no longer waits for this.
    """
    return _told(load(saga_id), Resolved(position, generation, outcome))


def _told(state: SagaState, event: Signalled | Resolved) -> Progress:
    definition = registry.get(state.type, state.version)
    try:
        settled = _settle(state, lambda known, now: decide(definition, known, event, now))
    except IntegrityError:  # the same signal, committed a moment ago by another
        return Progress(load(state.id))
    if isinstance(settled, Nothing):
        raise NotAllowed(settled.reason)
    return Progress(settled.state, due_positions(settled.state))


# --- Locks (rule 18) ------------------------------------------------------------------------------------


def _lock_held(state: SagaState, error: IntegrityError) -> Exception:
    """What it means that a statement which takes a lock was refused; any other error is itself."""
    if LOCK_CONSTRAINT not in str(error):
        return error
    rows = _query("SELECT saga_id FROM sagas_sagalock WHERE key = %s AND held", (state.lock_key,))
    holder = f"saga {rows[0][0]}" if rows else "a saga that has just ended"
    return LockHeld(f"{state.lock_key!r} is locked by {holder}; try again when it has ended")


def _root_holds(parent: SagaState, key: str) -> bool:
    """Whether `parent` or one of its ancestors is the saga that holds `key`."""
    statement = """
        WITH RECURSIVE up AS (
            SELECT id, parent_id FROM sagas_saga WHERE id = %s
            UNION ALL SELECT s.id, s.parent_id FROM sagas_saga s JOIN up ON s.id = up.parent_id)
        SELECT 1 FROM sagas_sagalock k JOIN up ON k.saga_id = up.id WHERE k.key = %s"""
    return bool(_query(statement, (parent.id, key)))


QUEUE = """
WITH saga AS (UPDATE sagas_saga SET rev = rev + 1 WHERE id = %s AND rev = %s RETURNING id), queued AS (
    INSERT INTO sagas_sagalock (key, saga_id, held, since)
    SELECT %s, id, false, clock_timestamp() FROM saga ON CONFLICT DO NOTHING)
SELECT 1 FROM saga"""
GRANT = """
UPDATE sagas_sagalock SET held = true
WHERE saga_id = %s AND (held OR id = (SELECT min(id) FROM sagas_sagalock WHERE key = %s))
RETURNING 1"""


def take_lock(state: SagaState) -> SagaState:
    """Queue for the saga's lock, unless it stands there already, and begin at once if it is granted.

    A place in the queue is taken at the saga's revision only: one that has ended meanwhile would
    never leave it.
    """
    for _ in range(TRIES):
        if not state.awaits_lock:
            return state
        if _query(QUEUE, (state.id, state.rev, state.lock_key)):
            break
        state = load(state.id)
    else:
        raise _contended(state)
    try:
        with _savepoint():
            rows = _query(GRANT, (state.id, state.lock_key))
    except IntegrityError:  # another was granted it in this very moment
        rows = []
    state = load(state.id)
    return happened(state, LockGranted()) if rows and state.awaits_lock else state


def first_in_line(key: str) -> UUID | None:
    """The saga at the head of a lock's queue."""
    rows = _query("SELECT saga_id FROM sagas_sagalock WHERE key = %s ORDER BY id LIMIT 1", (key,))
    return rows[0][0] if rows else None


# --- What scans need ------------------------------------------------------------------------------------


def take_interrupted(limit: int, seen: Sequence[UUID] = ()) -> list[UUID]:
    """Up to `limit` sagas whose wake-up time has passed, none of `seen`, taken for a while by this scan."""
    return _take("wake_at", sorted(ACTIVE), limit, seen)


def take_overdue(limit: int, seen: Sequence[UUID] = ()) -> list[UUID]:
    """Up to `limit` sagas on their way forward whose deadline has passed, taken likewise."""
    return _take("deadline_at", [Status.PENDING, Status.IN_PROGRESS], limit, seen)


def take_waiting(limit: int, seen: Sequence[UUID] = ()) -> list[UUID]:
    """Up to `limit` waiting sagas whose time to be looked at has come, taken likewise."""
    types, versions = _served()
    params = (conf().ring_after.total_seconds(), list(seen), types, versions, limit)
    return [row[0] for row in _query(TAKE_WAITING, params)]


def _take(column: str, statuses: Sequence[Status], limit: int, seen: Sequence[UUID]) -> list[UUID]:
    types, versions = _served()
    hold = conf().ring_after.total_seconds()
    params = (hold, [s.value for s in statuses], list(seen), types, versions, limit)
    return [row[0] for row in _query(TAKE.format(due=column), params)]


def _served() -> tuple[list[str], list[int]]:
    """The types and versions that this process has code for, less the types an operator has paused."""
    served = [key for key in sorted(registry.by_key) if key[0] not in paused_types()]
    return [t for t, _ in served], [v for _, v in served]


_paused: tuple[float, frozenset[str]] = (0.0, frozenset())
PAUSES_KNOWN_FOR = 1.0


def paused_types() -> frozenset[str]:
    """The types that an operator has paused, known to a second."""
    global _paused
    read_at, types = _paused
    if time.monotonic() - read_at > PAUSES_KNOWN_FOR or not read_at:
        types = frozenset(row[0] for row in _query("SELECT type FROM sagas_typepause", ()))
        _paused = (time.monotonic(), types)
    return types


def pause_type(saga_type: str, *, actor: str, reason: str) -> bool:
    """Let nothing more of a type be claimed, on every worker within a second or two.

    False if it was paused before, by whomever; then nothing is written.

    Raises:
        UnknownSagaType: no such definition.
    """
    registry.latest(saga_type)
    return bool(_query(PAUSE_TYPE, (saga_type, actor, reason)))


def resume_type(saga_type: str, *, actor: str, reason: str) -> bool:
    """End the pause of a type: its sagas are found by the next recovery scan, deadlines moved on.

    False if it was not paused; then nothing is written.
    """
    return bool(_query(RESUME_TYPE, (saga_type, actor, reason)))


def close_circuit(participant: str, *, actor: str, reason: str) -> None:
    """Forget a participant's failures by hand, with who and why; calls flow at once, within its limits.

    Raises:
        NotAllowed: there is no such participant; the message names those there are.
        redis.RedisError: the circuit is out of reach; that it was to be closed is written all the same.
    """
    if participant not in conf().participants:
        known = ", ".join(sorted(conf().participants))
        raise NotAllowed(f"there is no participant {participant!r}; configured: {known}")
    _query(CLOSE_CIRCUIT, (participant, actor, reason))
    breaker.reset(participant)


def beat(name: str, detail: dict[str, Any] | None = None) -> None:
    """Note that a periodic job has just done its work; the age of the row is what is watched."""
    _query(
        """INSERT INTO sagas_heartbeat (name, at, detail) VALUES (%s, clock_timestamp(), %s::jsonb)
           ON CONFLICT (name) DO UPDATE SET at = excluded.at, detail = excluded.detail RETURNING 1""",
        (name, dumps(detail or {})),
    )
