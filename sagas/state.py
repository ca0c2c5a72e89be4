"""What is known of a saga, as values: statuses and their edges, states, outcomes, events, decisions.

Pure; nothing here knows Django. `transitions.py` decides with these, `engine.py` stores them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar
from uuid import UUID

from sagas.errors import SagaError


class Status(StrEnum):
    """Where a saga stands. Everything from `compensating` to `compensation_failed` goes backward."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    WAITING = "waiting"
    COMPLETED = "completed"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    FAILED = "failed"
    PARKED = "parked"
    COMPENSATION_FAILED = "compensation_failed"


class StepStatus(StrEnum):
    """Where a step stands."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    COMPENSATION_FAILED = "compensation_failed"
    SKIPPED = "skipped"


class Effect(StrEnum):
    """What is known of a step's effect at its participant, in its present generation.

    It is apart from the status because a step in back-off, given up or skipped may have had an
    effect all the same (rule 10).
    """

    NONE = "none"
    UNKNOWN = "unknown"
    DONE = "done"
    UNDONE = "undone"


ACTIVE = frozenset({Status.PENDING, Status.IN_PROGRESS, Status.COMPENSATING})
FINISHED = frozenset({Status.COMPLETED, Status.COMPENSATED, Status.FAILED})
NEEDS_PERSON = frozenset({Status.PARKED, Status.COMPENSATION_FAILED})

SAGA_EDGES: Mapping[Status, frozenset[Status]] = {
    Status.PENDING: frozenset(
        {Status.IN_PROGRESS, Status.WAITING, Status.COMPLETED, Status.COMPENSATING, Status.PARKED}
    ),
    Status.IN_PROGRESS: frozenset(
        {Status.WAITING, Status.COMPLETED, Status.COMPENSATING, Status.PARKED, Status.FAILED}
    ),
    Status.WAITING: frozenset({Status.IN_PROGRESS, Status.COMPLETED, Status.COMPENSATING, Status.PARKED}),
    Status.COMPENSATING: frozenset(
        {Status.COMPENSATED, Status.FAILED, Status.COMPENSATION_FAILED, Status.IN_PROGRESS}
    ),
    Status.PARKED: frozenset({Status.IN_PROGRESS, Status.COMPENSATING, Status.COMPLETED, Status.FAILED}),
    Status.COMPENSATION_FAILED: frozenset({Status.COMPENSATING, Status.COMPENSATED}),
    Status.COMPLETED: frozenset({Status.COMPENSATING}),
    Status.COMPENSATED: frozenset({Status.IN_PROGRESS}),
    Status.FAILED: frozenset({Status.IN_PROGRESS}),
}


class IllegalTransition(SagaError):
    """A decision left the edge table: a bug in the engine, never the outcome of a race."""


# --- State ------------------------------------------------------------------------------------------


S = TypeVar("S")


@cache
def _slots(kind: type) -> tuple[attrgetter[tuple[Any, ...]], tuple[Any, ...], Mapping[str, Any]]:
    """How to read all fields of a frozen dataclass with slots, and how to set each."""
    names = [item.name for item in fields(kind)]
    setters = {name: getattr(kind, name).__set__ for name in names}
    return attrgetter(*names), tuple(setters.values()), setters


def replace(value: S, /, **changes: Any) -> S:
    """`dataclasses.replace` for a frozen class with slots, at half its price: it runs 50 times a saga."""
    kind: type = type(value)
    read, setters, by_name = _slots(kind)
    copy: S = object.__new__(kind)
    for put, item in zip(setters, read(value), strict=True):
        put(copy, item)
    for name, item in changes.items():
        by_name[name](copy, item)
    return copy


def with_step(steps: tuple[StepState, ...], step: StepState) -> tuple[StepState, ...]:
    """The steps with this one in its place."""
    return (*steps[: step.position], step, *steps[step.position + 1 :])


@dataclass(frozen=True, slots=True)
class StepState:
    """One step as stored.

    `due_at` set: it may be claimed from then on. `lease_until` set: it is claimed. `attempts`
    counts claims and never falls within a generation, since it guards records; `forgiven` of them
    do not count against the retry policy (lost workers, deferrals, attempts before a person resumed).
    `wait` says what a waiting step waits for: its `kind`, `until` when, and when to look (`poll_at`);
    of a signal or approval its `kind` and `name` are kept when the wait is over.
    """

    position: int
    name: str
    status: StepStatus = StepStatus.PENDING
    effect: Effect = Effect.NONE
    generation: int = 0
    attempts: int = 0
    crashes: int = 0
    forgiven: int = 0
    sequence: int | None = None
    due_at: datetime | None = None
    lease_until: datetime | None = None
    request: dict[str, Any] | None = None
    wait: dict[str, Any] | None = None
    result: Any = None
    error: dict[str, Any] | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    undo_generation: int = 0
    undo_attempts: int = 0
    undo_crashes: int = 0
    undo_forgiven: int = 0
    undo_request: dict[str, Any] | None = None
    undo_error: dict[str, Any] | None = None
    undo_started_at: datetime | None = None
    undo_finished_at: datetime | None = None

    @property
    def in_flight(self) -> bool:
        """Claimed by a worker, forward or backward."""
        return self.lease_until is not None

    @property
    def undoing(self) -> bool:
        """Claimed, or due again, backward; the saga may have turned after a claim forward."""
        return self.status is StepStatus.COMPENSATING


@dataclass(frozen=True, slots=True)
class SagaState:
    """One saga as stored at revision `rev`, with all its steps in order.

    `retreat_to` set while compensating: only that step and those behind it are undone, and then
    the saga goes forward again from there.
    """

    id: UUID
    type: str
    version: int
    data: Any
    correlation_id: str
    steps: tuple[StepState, ...]
    status: Status = Status.PENDING
    epoch: int = 0
    rev: int = 0
    sequence: int = 0
    rings: int = 0
    extensions: int = 0
    result: Any = None
    error: dict[str, Any] | None = None
    mailbox: tuple[dict[str, Any], ...] = ()
    parent_id: UUID | None = None
    lock_key: str | None = None
    retreat_to: int | None = None
    waiting_since: datetime | None = None
    paused_at: datetime | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    deadline_at: datetime | None = None

    @property
    def awaits_lock(self) -> bool:
        """Started, and not begun because its semantic lock is not granted yet."""
        return self.status is Status.WAITING and self.lock_key is not None and self.untouched

    @property
    def untouched(self) -> bool:
        """No step has begun nor is due."""
        return all(step.status is StepStatus.PENDING and step.due_at is None for step in self.steps)

    @property
    def backward(self) -> bool:
        """True from the turn on."""
        return self.status in (Status.COMPENSATING, Status.COMPENSATED, Status.COMPENSATION_FAILED)


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the audit."""

    kind: str
    step: str = ""
    attempt: int = 0
    detail: dict[str, Any] = field(default_factory=dict)
    actor: str = ""
    reason: str = ""
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What shall be true next, provided the saga is still at revision `guard`.

    `takes_lock`: the saga's semantic lock must be free now, and is its own in the same statement (rule 18):
    of a saga that had ended and goes on, and of one that begins and would not wait.
    """

    guard: int
    state: SagaState
    changed: tuple[int, ...]
    audit: tuple[Entry, ...]
    takes_lock: bool = False

    @property
    def due(self) -> tuple[int, ...]:
        """Positions that this decision made due, to be rung for."""
        return tuple(p for p in self.changed if self.state.steps[p].due_at is not None)


@dataclass(frozen=True, slots=True)
class Nothing:
    """There is nothing to write; `reason` says why, for the log and for the one who asked."""

    reason: str


# --- Events: what a worker or a scan has learnt -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Done:
    """The participant did it, and answered `result`."""

    result: Any


@dataclass(frozen=True, slots=True)
class Refused:
    """The participant said no, for good, and had no effect."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Transient:
    """Provably not processed; may be repeated at once or after `retry_after`.

    `answered`: by a participant that is up, and busy with this key or with others.
    """

    reason: str
    retry_after: timedelta | None = None
    answered: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody knows whether it was processed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Impossible:
    """An answer that no retry mends (401, 403, 404, a key with another body): a person must look."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """Begun and not yet done: the participant calls back, or the child saga ends; `kind` says which."""

    kind: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not sent at all: the circuit is open or the participant is at its limit (rule 5)."""

    reason: str
    wait: timedelta
    circuit_open: bool = False


Outcome = Done | Refused | Transient | Unknown | Impossible | Accepted | Deferred


@dataclass(frozen=True, slots=True)
class CachedResult:
    """The last known result of the same call, for a step whose fallback is cached data."""

    result: Any
    age: timedelta


@dataclass(frozen=True, slots=True)
class Recorded:
    """The outcome of one claimed attempt."""

    position: int
    backward: bool
    generation: int
    attempt: int
    outcome: Outcome
    cached: CachedResult | None = None


@dataclass(frozen=True, slots=True)
class LeaseExpired:
    """A claimed step has outlived its lease; `learnt` is what the participant said of it, if asked."""

    position: int
    learnt: Done | Refused | Impossible | None = None


@dataclass(frozen=True, slots=True)
class Overdue:
    """The saga's deadline has passed."""


@dataclass(frozen=True, slots=True)
class Rung:
    """The scan rang for what is due; the next time it waits longer."""


@dataclass(frozen=True, slots=True)
class Signalled:
    """Something from the outside came for the saga; `id` makes it count once (rule 17)."""

    id: str
    name: str
    data: Any
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a waiting step waited for is known now (a callback, a poll, the end of a child)."""

    position: int
    generation: int
    outcome: Done | Refused


@dataclass(frozen=True, slots=True)
class WaitOver:
    """A waiting step's time has come: a timer rings, or a wait has lasted too long."""

    position: int


@dataclass(frozen=True, slots=True)
class Polled:
    """A waiting step was looked at and is still waiting; look again later."""

    position: int


@dataclass(frozen=True, slots=True)
class LockGranted:
    """The saga's semantic lock is its own now."""


Event = Recorded | LeaseExpired | Overdue | Rung | Signalled | Resolved | WaitOver | Polled | LockGranted

DEFINITION_CHANGED = "definition_changed"  # the code of a saga whose definition lost, moved or got steps
UNDO_UNFINISHED = "undo_unfinished"  # the code of a compensation that was accepted and does not end
MAX_CRASHES = 5
MAX_RINGS = 6
MAX_MAIL = 100
