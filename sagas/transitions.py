"""What may happen to a saga: statuses, their edges, and `decide()`. Pure; `now` is a parameter.

A decision starts from a `SagaState` that was true at revision `rev` and yields the state that
shall follow. Whoever applies it must find the saga still at that revision; if not, the state is
read afresh and the decision made again. So no decision ever rests on a stale sibling, which is
what the join of a parallel group, the undo order and the pivot rules need (rules 3, 6, 13, 14, 15).
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sagas.definition import Call, Fallback, Results, SagaDefinition, SagaView, Step, plain
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
    Status.PENDING: frozenset({Status.IN_PROGRESS, Status.COMPENSATING, Status.PARKED, Status.FAILED}),
    Status.IN_PROGRESS: frozenset(
        {Status.WAITING, Status.COMPLETED, Status.COMPENSATING, Status.PARKED, Status.FAILED}
    ),
    Status.WAITING: frozenset({Status.IN_PROGRESS, Status.COMPENSATING, Status.PARKED}),
    Status.COMPENSATING: frozenset({Status.COMPENSATED, Status.FAILED, Status.COMPENSATION_FAILED}),
    Status.PARKED: frozenset({Status.IN_PROGRESS, Status.COMPENSATING}),
    Status.COMPENSATION_FAILED: frozenset({Status.COMPENSATING}),
    Status.COMPLETED: frozenset({Status.COMPENSATING}),
    Status.COMPENSATED: frozenset({Status.IN_PROGRESS}),
    Status.FAILED: frozenset({Status.IN_PROGRESS}),
}


class IllegalTransition(SagaError):
    """A decision left the edge table: a bug in the engine, never the outcome of a race."""


# --- State ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StepState:
    """One step as stored.

    `due_at` set: it may be claimed from then on. `lease_until` set: it is claimed. `attempts`
    counts claims and never falls within a generation, since it guards records; `forgiven` of them
    do not count against the retry policy (lost workers, attempts before a person resumed).
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


@dataclass(frozen=True, slots=True)
class SagaState:
    """One saga as stored at revision `rev`, with all its steps in order."""

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
    paused_at: datetime | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    deadline_at: datetime | None = None

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
    """What shall be true next, provided the saga is still at revision `guard`."""

    guard: int
    state: SagaState
    changed: tuple[int, ...]
    audit: tuple[Entry, ...]

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
    """Provably not processed; may be repeated at once or after `retry_after`."""

    reason: str
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody knows whether it was processed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Impossible:
    """An answer that no retry mends (401, 403, 404, a key with another body): a person must look."""

    code: str
    reason: str


Outcome = Done | Refused | Transient | Unknown | Impossible


@dataclass(frozen=True, slots=True)
class Recorded:
    """The outcome of one claimed attempt."""

    position: int
    backward: bool
    generation: int
    attempt: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class LeaseExpired:
    """A claimed step has outlived its lease; `learnt` is what the participant said of it, if asked."""

    position: int
    learnt: Done | Refused | None = None


@dataclass(frozen=True, slots=True)
class Overdue:
    """The saga's deadline has passed."""


@dataclass(frozen=True, slots=True)
class Rung:
    """The scan rang for what is due; the next time it waits longer."""


Event = Recorded | LeaseExpired | Overdue | Rung

MAX_CRASHES = 5
MAX_RINGS = 6


# --- Deciding ---------------------------------------------------------------------------------------


def idempotency_key(saga_id: UUID, step: StepState, *, backward: bool) -> str:
    """saga : step : direction : generation (rule 11)."""
    if backward:
        return f"{saga_id}:{step.name}:compensation:{step.undo_generation}"
    return f"{saga_id}:{step.name}:action:{step.generation}"


def view(definition: SagaDefinition, state: SagaState) -> SagaView:
    """What step functions may know at this point."""
    results = {
        declared.function: step.result for declared, step in zip(definition.steps, state.steps, strict=True)
    }
    return SagaView(state.id, state.correlation_id, definition.Input, state.data, Results(results))


def wake_at(state: SagaState, ring_after: timedelta) -> datetime | None:
    """When a scan must look at this saga if nothing else happens to it (rule 7); None: never.

    A message was sent for everything due, so a due step is given `ring_after` before it is rung
    for again, doubled with every ring in vain; a claimed one is left alone until its lease ends.
    """
    if state.status not in ACTIVE or state.paused_at is not None:
        return None
    patience = ring_after * 2 ** min(state.rings, MAX_RINGS)
    times = [
        step.lease_until if step.lease_until is not None else step.due_at + patience
        for step in state.steps
        if step.lease_until is not None or step.due_at is not None
    ]
    return min(times, default=None)


def past_pivot(definition: SagaDefinition, state: SagaState) -> bool:
    """True once the pivot was claimed and not definitely refused: there is no way back (rule 15)."""
    return any(
        declared.pivot
        and step.attempts > 0
        and not (step.status in (StepStatus.FAILED, StepStatus.PENDING) and step.effect is Effect.NONE)
        for declared, step in zip(definition.steps, state.steps, strict=True)
    )


def claimable(state: SagaState, position: int, epoch: int, now: datetime) -> bool:
    """Rule 4: this direction, this epoch, neither paused nor parked, and the step is due."""
    due = state.steps[position].due_at
    return (
        state.epoch == epoch
        and state.status in ACTIVE
        and state.paused_at is None
        and due is not None
        and due <= now
    )


def claimed(state: SagaState, position: int, now: datetime, lease: timedelta) -> SagaState:
    """`state` after a claim of a claimable step. The store's claim statement does exactly this."""
    step = state.steps[position]
    common: dict[str, Any] = {"due_at": None, "lease_until": now + lease}
    if state.backward:
        step = replace(
            step,
            status=StepStatus.COMPENSATING,
            undo_attempts=step.undo_attempts + 1,
            undo_started_at=step.undo_started_at or now,
            **common,
        )
        saga = state
    else:
        step = replace(
            step,
            status=StepStatus.IN_PROGRESS,
            attempts=step.attempts + 1,
            started_at=step.started_at or now,
            **common,
        )
        saga = replace(state, status=Status.IN_PROGRESS, started_at=state.started_at or now)
    return replace(saga, rev=state.rev + 1, steps=_with(state.steps, step))


def _with(steps: tuple[StepState, ...], step: StepState) -> tuple[StepState, ...]:
    return (*steps[: step.position], step, *steps[step.position + 1 :])


class Draft:
    """A decision in the making: the state as it shall be, and what the audit will say."""

    def __init__(self, definition: SagaDefinition, state: SagaState, now: datetime) -> None:
        self.definition = definition
        self.before = state
        self.state = state
        self.now = now
        self.changed: set[int] = set()
        self.audit: list[Entry] = []

    def decision(self) -> Decision:
        """The finished decision."""
        state = replace(self.state, rev=self.before.rev + 1)
        return Decision(self.before.rev, state, tuple(sorted(self.changed)), tuple(self.audit))

    def update(self, **changes: Any) -> None:
        """Change the saga itself; a change of status must be an edge of the table."""
        status = changes.get("status", self.state.status)
        if status is not self.state.status and status not in SAGA_EDGES[self.state.status]:
            raise IllegalTransition(f"{self.state.id}: {self.state.status} to {status}")
        self.state = replace(self.state, **changes)

    def update_step(self, position: int, **changes: Any) -> None:
        """Change one step."""
        self.state = replace(
            self.state, steps=_with(self.state.steps, replace(self.state.steps[position], **changes))
        )
        self.changed.add(position)

    def note(self, kind: str, position: int | None = None, **detail: Any) -> None:
        """Add an audit row."""
        name, attempt = "", 0
        if position is not None:
            step = self.state.steps[position]
            name, attempt = step.name, step.undo_attempts if self.state.backward else step.attempts
        self.audit.append(Entry(kind, name, attempt, detail))

    def declared(self, position: int) -> Step:
        """The step's declaration."""
        return self.definition.steps[position]

    # --- forward

    def advance(self) -> None:
        """Make due whatever may run now; finish if nothing is left."""
        for step_def in self.definition.steps:
            step = self.state.steps[step_def.position]
            if step.status in (StepStatus.COMPLETED, StepStatus.SKIPPED):
                continue
            if not self._stage_open(step_def.stage):
                return
            if step.status is StepStatus.PENDING and step.due_at is None:
                self.fall_due(step_def.position)
                if self.state.status is Status.PARKED:
                    return
        if all(s.status in (StepStatus.COMPLETED, StepStatus.SKIPPED) for s in self.state.steps):
            self._complete()

    def _stage_open(self, stage: int) -> bool:
        """Rule 4: forward, due means every predecessor completed or skipped."""
        return all(
            self.state.steps[item.position].status in (StepStatus.COMPLETED, StepStatus.SKIPPED)
            for item in self.definition.steps
            if item.stage < stage
        )

    def fall_due(self, position: int) -> None:
        """Fix the request of a step and make it claimable, or skip it (rule 11)."""
        declared, step = self.declared(position), self.state.steps[position]
        request = step.request
        if request is None:
            known = view(self.definition, self.state)
            try:
                if declared.when is not None and not declared.when(known):
                    self.skip(position, "its condition did not hold")
                    return
                request = self._request(declared.action(self.definition, known))
            except Exception:  # whatever an author's code raises parks the saga, with its traceback
                self.park(position, "definition_error", traceback.format_exc(limit=-8))
                return
        self.update_step(position, request=request, due_at=self.now)

    def _request(self, made: Any) -> dict[str, Any]:
        if isinstance(made, Call):
            return {
                "participant": made.participant,
                "method": made.method,
                "path": made.path,
                "body": made.body,
                "issued_at": self.now.isoformat(),
            }
        return {"value": plain(made)}

    def skip(self, position: int, reason: str) -> None:
        """Settle a step that is not done."""
        self.update_step(
            position,
            status=StepStatus.SKIPPED,
            due_at=None,
            lease_until=None,
            finished_at=self.now,
            error={"code": "skipped", "reason": reason},
        )
        self.note("step_skipped", position, reason=reason)

    def _complete(self) -> None:
        try:
            result = plain(self.definition.result(view(self.definition, self.state)))
        except Exception:  # as in fall_due
            self.park(None, "definition_error", traceback.format_exc(limit=-8))
            return
        self.update(status=Status.COMPLETED, result=result, error=None, finished_at=self.now)
        self.note("saga_completed")

    def park(self, position: int | None, code: str, reason: str, *, refused: bool = False) -> None:
        """Leave the saga to a person; nothing is undone by that (rule 8).

        `refused`: the participant said no for good, so going on takes a new key (rule 11).
        """
        name = self.declared(position).name if position is not None else ""
        error = {"step": name, "code": code, "reason": reason, "refused": refused}
        if self.state.backward:
            if position is not None:
                self.update_step(
                    position,
                    status=StepStatus.COMPENSATION_FAILED,
                    undo_error=error,
                    due_at=None,
                    lease_until=None,
                )
            self.update(status=Status.COMPENSATION_FAILED)
            left = [s.name for s in self.undo_set()]
            self.note("compensation_failed", position, code=code, reason=reason, undos_left=left)
            return
        if position is not None:
            self.update_step(position, error=error)
        self.update(status=Status.PARKED, error=error)
        self.note("saga_parked", position, code=code, reason=reason)

    # --- backward

    def undo_set(self) -> list[StepState]:
        """Rule 10, in the order of doing: what completed and what may have had an effect."""
        chosen = [
            step
            for step in self.state.steps
            if step.effect in (Effect.DONE, Effect.UNKNOWN) and self.declared(step.position).undo is not None
        ]
        return sorted(chosen, key=lambda step: (step.sequence or 0, step.position))

    def turn(self, error: dict[str, Any]) -> None:
        """Go backward: settle what has not begun, then undo (rule 13)."""
        self.update(
            status=Status.COMPENSATING, epoch=self.state.epoch + 1, error=error, rings=0, finished_at=None
        )
        self.note("saga_turned", **error)
        for step in self.state.steps:
            if step.in_flight or step.status not in (StepStatus.PENDING, StepStatus.WAITING):
                continue
            begun = step.attempts > 0
            self.update_step(
                step.position,
                status=StepStatus.FAILED if begun else StepStatus.SKIPPED,
                due_at=None,
                finished_at=self.now,
            )
            if step.effect is Effect.UNKNOWN:
                self.draw_sequence(step.position)
        self.undo_next()

    def draw_sequence(self, position: int) -> None:
        """The step's place in the order of doing, drawn under the saga's lock (rule 13)."""
        self.update(sequence=self.state.sequence + 1)
        self.update_step(position, sequence=self.state.sequence)

    def undo_next(self) -> None:
        """Make the latest effect's compensation due, once nothing is in flight; finish if none is left."""
        if any(step.in_flight for step in self.state.steps):
            return
        left = self.undo_set()
        if not left:
            undone = any(step.effect is Effect.UNDONE for step in self.state.steps)
            status = Status.COMPENSATED if undone else Status.FAILED
            self.update(status=status, finished_at=self.now)
            self.note(f"saga_{status}")
            return
        position = left[-1].position
        if self.state.steps[position].due_at is None:
            self._undo_falls_due(position)

    def _undo_falls_due(self, position: int) -> None:
        declared, request = self.declared(position).undo, self.state.steps[position].undo_request
        assert declared is not None
        if request is None:
            try:
                made = declared.function(self.definition, view(self.definition, self.state))
                request = self._request(made)
            except Exception:  # as in fall_due
                self.park(position, "definition_error", traceback.format_exc(limit=-8))
                return
        self.update_step(position, undo_request=request, due_at=self.now)


def begin(
    definition: SagaDefinition,
    saga_id: UUID,
    data: Any,
    correlation_id: str,
    now: datetime,
    *,
    execute: bool = True,
    entry: Entry,
) -> Decision:
    """A new saga with all its steps (rules 1, 2); with `execute` its first steps are due."""
    steps = tuple(StepState(item.position, item.name) for item in definition.steps)
    state = SagaState(
        saga_id, definition.type, definition.version, data, correlation_id, steps, created_at=now
    )
    draft = Draft(definition, state, now)
    draft.audit.append(entry)
    if execute:
        draft.update(deadline_at=now + definition.deadline)
        draft.advance()
    return draft.decision()


def decide(
    definition: SagaDefinition, state: SagaState, event: Event, now: datetime
) -> Decision | Nothing:
    """What follows from `event` in `state`. Pure: same arguments, same answer."""
    draft = Draft(definition, state, now)
    match event:
        case Recorded():
            stale = _stale(state, event)
            if stale:
                return Nothing(stale)
            (_record_undo if event.backward else _record)(draft, event)
        case LeaseExpired():
            step = state.steps[event.position]
            if step.lease_until is None or step.lease_until > now:
                return Nothing("the step is not claimed beyond its lease")
            _expire_lease(draft, event)
        case Overdue():
            reason = _overdue(draft)
            if reason:
                return Nothing(reason)
        case Rung():
            draft.update(rings=state.rings + 1)
    return draft.decision()


def _stale(state: SagaState, event: Recorded) -> str:
    """Rule 6: a record that finds its attempt gone writes nothing."""
    step = state.steps[event.position]
    attempt, generation, status = (
        (step.undo_attempts, step.undo_generation, StepStatus.COMPENSATING)
        if event.backward
        else (step.attempts, step.generation, StepStatus.IN_PROGRESS)
    )
    if step.in_flight and (status, attempt, generation) == (step.status, event.attempt, event.generation):
        return ""
    return "the attempt is no longer the current one"


def _record(draft: Draft, event: Recorded) -> None:
    outcome, position = event.outcome, event.position
    draft.update(rings=0)
    match outcome:
        case Done():
            _completed(draft, position, outcome.result)
        case Refused():
            _failed(draft, position, Effect.NONE, outcome.code, outcome.reason, "refused")
        case Transient():
            before = draft.state.steps[position].effect
            _again_or_failed(draft, position, before, outcome.reason, outcome.retry_after)
        case Unknown():
            _again_or_failed(draft, position, Effect.UNKNOWN, outcome.reason, None)
        case Impossible():
            back = StepStatus.FAILED if draft.state.backward else StepStatus.PENDING
            draft.update_step(position, status=back, effect=Effect.UNKNOWN, lease_until=None)
            if draft.state.status is Status.IN_PROGRESS:
                draft.park(position, outcome.code, outcome.reason)
            else:
                draft.note("step_impossible", position, code=outcome.code, reason=outcome.reason)
    _go_on(draft)


def _go_on(draft: Draft) -> None:
    """Continue in the direction of the saga as it stands after the record."""
    if draft.state.status is Status.COMPENSATING:
        draft.undo_next()
    elif draft.state.status is Status.IN_PROGRESS:
        draft.advance()


def _completed(draft: Draft, position: int, result: Any) -> None:
    draft.draw_sequence(position)
    draft.update_step(
        position,
        status=StepStatus.COMPLETED,
        effect=Effect.DONE,
        result=result,
        error=None,
        lease_until=None,
        finished_at=draft.now,
    )
    draft.note("step_completed", position)


def _failed(
    draft: Draft, position: int, effect: Effect, code: str, reason: str, kind: str
) -> None:
    """A step is given up: turn, unless its fallback or the pivot says otherwise."""
    declared = draft.declared(position)
    error = {"step": declared.name, "code": code, "reason": reason}
    draft.update_step(
        position,
        status=StepStatus.FAILED,
        effect=effect,
        error=error,
        lease_until=None,
        due_at=None,
        finished_at=draft.now,
    )
    if effect is Effect.UNKNOWN:
        draft.draw_sequence(position)
    draft.note(f"step_{kind}", position, code=code, reason=reason)
    if draft.state.status is not Status.IN_PROGRESS:
        return
    if past_pivot(draft.definition, draft.state):
        draft.update_step(position, status=StepStatus.PENDING, finished_at=None)
        reason = f"{reason} (past the pivot there is no way back)"
        draft.park(position, code, reason, refused=kind == "refused")
    elif declared.fallback is Fallback.SKIP:
        draft.skip(position, f"given up: {reason}")
    else:
        draft.turn(error)


def _again_or_failed(
    draft: Draft, position: int, effect: Effect, reason: str, retry_after: timedelta | None
) -> None:
    """Repeat under the same key after a pause, or give the step up."""
    step, retry = draft.state.steps[position], draft.declared(position).retry
    spent = step.attempts - step.forgiven
    kind = "unknown" if effect is Effect.UNKNOWN else "transient"
    began = step.started_at or draft.now
    exhausted = spent >= retry.attempts or (
        retry.total is not None and draft.now - began >= retry.total
    )
    if exhausted or draft.state.status is Status.COMPENSATING:
        code = "outcome_unknown" if effect is Effect.UNKNOWN else "retries_exhausted"
        _failed(draft, position, effect, code, reason, kind)
        return
    delay = max(retry.delay(spent, f"{draft.state.id}:{position}"), retry_after or timedelta(0))
    draft.update_step(
        position,
        status=StepStatus.PENDING,
        effect=effect,
        error={"step": step.name, "code": kind, "reason": reason},
        lease_until=None,
        due_at=draft.now + delay,
    )
    draft.note(f"step_{kind}", position, reason=reason, retry_in=round(delay.total_seconds(), 3))


def _record_undo(draft: Draft, event: Recorded) -> None:
    outcome, position = event.outcome, event.position
    draft.update(rings=0)
    match outcome:
        case Done():
            draft.update_step(
                position,
                status=StepStatus.COMPENSATED,
                effect=Effect.UNDONE,
                undo_error=None,
                lease_until=None,
                undo_finished_at=draft.now,
            )
            draft.note("step_compensated", position)
            draft.undo_next()
        case Refused():
            draft.park(position, outcome.code, outcome.reason, refused=True)
        case Impossible():
            draft.park(position, outcome.code, outcome.reason)
        case Transient() | Unknown():
            _undo_again_or_park(draft, position, outcome)


def _undo_again_or_park(draft: Draft, position: int, outcome: Transient | Unknown) -> None:
    step, declared = draft.state.steps[position], draft.declared(position).undo
    assert declared is not None
    spent = step.undo_attempts - step.undo_forgiven
    if spent >= declared.retry.attempts:
        draft.park(position, "retries_exhausted", outcome.reason)
        return
    pause = outcome.retry_after if isinstance(outcome, Transient) else None
    delay = max(declared.retry.delay(spent, f"{draft.state.id}:undo:{position}"), pause or timedelta(0))
    draft.update_step(
        position,
        undo_error={"step": declared.name, "code": "retrying", "reason": outcome.reason},
        lease_until=None,
        due_at=draft.now + delay,
    )
    draft.note("compensation_retry", position, reason=outcome.reason, retry_in=delay.total_seconds())


def _expire_lease(draft: Draft, event: LeaseExpired) -> None:
    """A worker was lost: believe the participant if it knows, else repeat under the same key (rule 9)."""
    position, step = event.position, draft.state.steps[event.position]
    undoing = step.status is StepStatus.COMPENSATING
    crashes = (step.undo_crashes if undoing else step.crashes) + 1
    if undoing:
        draft.update_step(position, undo_crashes=crashes, undo_forgiven=step.undo_forgiven + 1)
    else:
        draft.update_step(position, crashes=crashes, forgiven=step.forgiven + 1)
    draft.note("lease_expired", position, crashes=crashes)
    if event.learnt is not None:
        attempt, generation = (
            (step.undo_attempts, step.undo_generation) if undoing else (step.attempts, step.generation)
        )
        recorded = Recorded(position, undoing, generation, attempt, event.learnt)
        (_record_undo if undoing else _record)(draft, recorded)
        return
    if undoing:
        draft.update_step(position, lease_until=None, due_at=draft.now)
    elif draft.state.status is Status.COMPENSATING:
        draft.update_step(
            position, status=StepStatus.FAILED, effect=Effect.UNKNOWN, lease_until=None, finished_at=draft.now
        )
        draft.draw_sequence(position)
        draft.undo_next()
    else:
        draft.update_step(
            position, status=StepStatus.PENDING, effect=Effect.UNKNOWN, lease_until=None, due_at=draft.now
        )
    if crashes >= MAX_CRASHES and draft.state.steps[position].due_at is not None:
        draft.update_step(position, due_at=None)
        draft.park(position, "worker_lost", f"{crashes} workers were lost in this step (rule 5)")


def _overdue(draft: Draft) -> str:
    """Rule 20: extend a bounded number of times and retry now, then turn. Says why if it does nothing."""
    state = draft.state
    if state.status not in (Status.PENDING, Status.IN_PROGRESS) or state.paused_at is not None:
        return "only a saga on its way forward times out"
    if state.deadline_at is None or state.deadline_at > draft.now:
        return "the deadline has not passed"
    forward_only = past_pivot(draft.definition, state)
    if state.extensions < draft.definition.extensions or forward_only:
        draft.update(
            deadline_at=draft.now + draft.definition.deadline, extensions=state.extensions + 1, rings=0
        )
        for step in state.steps:
            if step.due_at is not None:
                draft.update_step(step.position, due_at=draft.now)
        draft.note("deadline_extended", extensions=state.extensions + 1, past_pivot=forward_only)
        return ""
    current = next((s.name for s in state.steps if s.in_flight or s.due_at is not None), "")
    draft.turn({"step": current, "code": "timeout", "reason": "the saga's deadline has passed"})
    return ""

