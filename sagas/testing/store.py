"""A store in memory that honours the same guards as the statements of `engine.py`.

Insert once per idempotency key, claim as `claims.claimable` and `claimed` say, apply only at the
revision a decision was made for, wake-up times moved on by whoever takes a saga to mend it, locks
granted in the order of their queue and given back by the decision that ends their saga.
One test suite runs against this store and against PostgreSQL, so that they cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sagas.claims import claimable, claimed, resume_at, wake_at
from sagas.errors import IdempotencyConflict, LockHeld, SagaError, SagaNotFound
from sagas.state import ACTIVE, FINISHED, Decision, Entry, SagaState, Status, replace

RING_AFTER = timedelta(seconds=15)
EPOCH = datetime(2030, 1, 1, tzinfo=UTC)


class AskedBefore(SagaError):
    """An intervention with this request id was applied before; nothing was written."""


@dataclass(slots=True)
class VirtualClock:
    """Time that passes only when it is told to."""

    now: datetime = EPOCH

    def pass_(self, duration: timedelta) -> None:
        """Let `duration` go by."""
        self.now += duration

    def reach(self, at: datetime) -> None:
        """Go on to `at`; time never goes back."""
        self.now = max(self.now, at)


@dataclass(slots=True)
class Row:
    """One saga as stored, with its audit and the time at which a scan shall look at it."""

    state: SagaState
    wake_at: datetime | None
    resume_at: datetime | None = None
    audit: list[Entry] = field(default_factory=list)


class MemoryStore:
    """Sagas in memory; every method is one transaction."""

    def __init__(self, clock: VirtualClock | None = None, ring_after: timedelta = RING_AFTER) -> None:
        self.clock = clock or VirtualClock()
        self.ring_after = ring_after
        self.rows: dict[UUID, Row] = {}
        self._starts: dict[tuple[int | None, str], tuple[UUID, str]] = {}
        self.queues: dict[str, list[UUID]] = {}
        self.holders: dict[str, UUID] = {}

    @property
    def elapsed(self) -> timedelta:
        """Virtual time since the beginning."""
        return self.clock.now - EPOCH

    def insert(
        self,
        decision: Decision,
        *,
        owner_id: int | None = None,
        idempotency_key: str | None = None,
        fingerprint: str = "",
    ) -> UUID:
        """Store a new saga, or find the one that was started under the same key before.

        Raises:
            IdempotencyConflict: the key was used with another request.
            LockHeld: it takes a lock that another saga has.
        """
        state = decision.state
        known = self._starts.get((owner_id, idempotency_key or ""))
        if known is not None:
            if known[1] != fingerprint:
                raise IdempotencyConflict(f"{idempotency_key!r} was used with another request")
            return known[0]
        if decision.takes_lock:
            self.seize(state)
        if idempotency_key is not None:
            self._starts[owner_id, idempotency_key] = (state.id, fingerprint)
        self.rows[state.id] = Row(state, self.wake(state), resume_at(state), list(decision.audit))
        return state.id

    def load(self, saga_id: UUID) -> SagaState:
        """The saga as committed now.

        Raises:
            SagaNotFound: there is none.
        """
        return self._row(saga_id).state

    def audit(self, saga_id: UUID) -> list[Entry]:
        """The audit of one saga, oldest first."""
        return list(self._row(saga_id).audit)

    def claim(self, saga_id: UUID, position: int, epoch: int, lease: timedelta) -> SagaState | None:
        """Claim a due step (rule 4); None if there is nothing to claim."""
        row = self.rows.get(saga_id)
        if row is None or not self.may_claim(row.state, position, epoch):
            return None
        before = row.state
        row.state = claimed(before, position, self.clock.now, lease)
        step = row.state.steps[position]
        kind, attempt = (
            ("compensation_claimed", step.undo_attempts)
            if before.backward
            else ("step_claimed", step.attempts)
        )
        row.audit.append(Entry(kind, step.name, attempt))
        return row.state

    def may_claim(self, state: SagaState, position: int, epoch: int) -> bool:
        """The guard of a claim."""
        return claimable(state, position, epoch, self.clock.now)

    def apply(self, decision: Decision) -> bool:
        """Make a decision true; False if the saga is no longer at the revision it was made for.

        Raises:
            AskedBefore: an entry's request id is in the audit already.
            LockHeld: it takes a lock that another saga has.
        """
        row = self._row(decision.state.id)
        if not self.may_apply(row.state, decision):
            return False
        asked = {entry.request_id for entry in decision.audit} - {None}
        if any(entry.request_id in asked for entry in row.audit):
            raise AskedBefore(f"request {asked} of saga {decision.state.id} was applied before")
        if decision.takes_lock:
            self.seize(decision.state)
        row.state = self.merged(row.state, decision)
        if row.state.status in FINISHED:
            self.release(row.state)
        row.wake_at, row.resume_at = self.wake(decision.state), resume_at(decision.state)
        row.audit.extend(decision.audit)
        return True

    def may_apply(self, state: SagaState, decision: Decision) -> bool:
        """The guard of a decision."""
        return state.rev == decision.guard

    def merged(self, state: SagaState, decision: Decision) -> SagaState:
        """What is stored once a decision has taken hold: the saga, and the steps that it says it changed."""
        pairs = enumerate(zip(state.steps, decision.state.steps, strict=True))
        steps = tuple(new if position in decision.changed else old for position, (old, new) in pairs)
        return replace(decision.state, steps=steps)

    # --- Families and locks (rule 18)

    def child_of(self, key: str) -> SagaState | None:
        """The child saga that was started under this key; None if it never was."""
        known = self._starts.get((None, key))
        return None if known is None else self.load(known[0])

    def holder(self, key: str) -> UUID | None:
        """The saga that holds a lock."""
        return self.holders.get(key)

    def first_in_line(self, key: str) -> UUID | None:
        """The saga at the head of a lock's queue."""
        return next(iter(self.queues.get(key, ())), None)

    def root_holds(self, parent_id: UUID | None, key: str) -> bool:
        """Whether that saga or one of its ancestors stands for `key`, so that its family may pass."""
        while parent_id is not None:
            if parent_id in self.queues.get(key, ()):
                return True
            parent_id = self.load(parent_id).parent_id
        return False

    def take_lock(self, saga_id: UUID) -> bool:
        """Queue for the saga's lock, unless it stands there already; True if it is granted.

        Only while it awaits the lock, and at a revision of its own: one that has ended would never leave.
        """
        row = self._row(saga_id)
        if not row.state.awaits_lock:
            return False
        row.state = replace(row.state, rev=row.state.rev + 1)
        key = row.state.lock_key or ""
        queue = self.queues.setdefault(key, [])
        if saga_id not in queue:
            queue.append(saga_id)
        if not self.may_hold(key, saga_id):
            return False
        self.holders[key] = saga_id
        return True

    def may_hold(self, key: str, saga_id: UUID) -> bool:
        """The guard of a lock: its own already, or free and this is the first in line."""
        holder = self.holder(key)
        return holder == saga_id or (holder is None and self.first_in_line(key) == saga_id)

    def release(self, state: SagaState) -> None:
        """What a saga that ends gives back."""
        if state.lock_key is None:
            return
        queue = self.queues.get(state.lock_key, [])
        if state.id in queue:
            queue.remove(state.id)
        if self.holder(state.lock_key) == state.id:
            del self.holders[state.lock_key]

    def seize(self, state: SagaState) -> None:
        """The lock that a decision takes (`Decision.takes_lock`)."""
        key = state.lock_key or ""
        holder = self.holders.setdefault(key, state.id)
        if holder != state.id:
            raise LockHeld(f"{key!r} is locked by saga {holder}; try again when it has ended")
        queue = self.queues.setdefault(key, [])
        if state.id not in queue:
            queue.append(state.id)

    # --- Scans

    def next_wake(self) -> datetime | None:
        """The earliest time at which a scan would find something to mend."""
        looks = (_interrupted, _waiting, _overdue)
        times = [look(row) for row in self.rows.values() if not self._in_line(row.state) for look in looks]
        return min((t for t in times if t is not None), default=None)

    def _in_line(self, state: SagaState) -> bool:
        """Whether a look at a saga would find nothing but that others are before it."""
        return (
            state.awaits_lock
            and state.id in self.queues.get(state.lock_key or "", ())
            and (not self.may_hold(state.lock_key or "", state.id))
        )

    def take_interrupted(self, limit: int) -> list[UUID]:
        """Up to `limit` sagas whose wake-up time has passed, taken for a while by this scan."""
        return self._take(_interrupted, limit)

    def take_overdue(self, limit: int) -> list[UUID]:
        """Up to `limit` sagas on their way forward whose deadline has passed, taken likewise."""
        return self._take(_overdue, limit)

    def take_waiting(self, limit: int) -> list[UUID]:
        """Up to `limit` waiting sagas whose time to be looked at has come, taken likewise."""
        found = self._find(_waiting, limit)
        for saga_id in found:
            self.rows[saga_id].resume_at = self.clock.now + self.ring_after
        return found

    def _take(self, look: Callable[[Row], datetime | None], limit: int) -> list[UUID]:
        found = self._find(look, limit)
        for saga_id in found:
            self.rows[saga_id].wake_at = self.clock.now + self.ring_after
        return found

    def _find(self, look: Callable[[Row], datetime | None], limit: int) -> list[UUID]:
        times = [(look(row), saga_id) for saga_id, row in self.rows.items()]
        due = sorted((at, saga_id) for at, saga_id in times if at is not None and at <= self.clock.now)
        return [saga_id for _, saga_id in due[:limit]]

    def wake(self, state: SagaState) -> datetime | None:
        """The wake-up time that is stored with a state."""
        return wake_at(state, self.ring_after, self.clock.now)

    def _row(self, saga_id: UUID) -> Row:
        try:
            return self.rows[saga_id]
        except KeyError:
            raise SagaNotFound(f"there is no saga {saga_id}") from None


def _interrupted(row: Row) -> datetime | None:
    return row.wake_at if row.state.status in ACTIVE and row.state.paused_at is None else None


def _waiting(row: Row) -> datetime | None:
    return row.resume_at if row.state.status is Status.WAITING and row.state.paused_at is None else None


def _overdue(row: Row) -> datetime | None:
    forward = row.state.status in (Status.PENDING, Status.IN_PROGRESS) and row.state.paused_at is None
    return row.state.deadline_at if forward else None
