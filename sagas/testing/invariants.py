"""What must hold at every moment of a history and at its end, checked apart from the code that decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sagas.children import UNDONE
from sagas.definition import SagaDefinition
from sagas.facts import idempotency_key
from sagas.state import (
    ACTIVE,
    FINISHED,
    NEEDS_PERSON,
    SAGA_EDGES,
    Decision,
    Effect,
    Entry,
    SagaState,
    Status,
    StepState,
    StepStatus,
)
from sagas.testing.participants import Participants

ALERTS = frozenset({"saga_parked", "compensation_failed"})
PASSED = frozenset({StepStatus.COMPLETED, StepStatus.SKIPPED})
UNSETTLED = frozenset(
    {StepStatus.PENDING, StepStatus.IN_PROGRESS, StepStatus.WAITING, StepStatus.COMPENSATING}
)


class BrokenInvariant(AssertionError):
    """A history that breaks an invariant; prints as the rule broken and the steps that led there."""

    def __init__(self, broken: str, history: Sequence[str]) -> None:
        super().__init__("\n".join([broken, *(f"  {line}" for line in history)]))
        self.broken = broken
        self.history = tuple(history)


def require(condition: bool, broken: str) -> None:
    """Fail with `broken` unless the condition holds."""
    if not condition:
        raise BrokenInvariant(broken, ())


@dataclass(slots=True)
class Monitor:
    """Watches every transition that takes hold, with a memory of its own of who holds which claim."""

    definition: SagaDefinition
    participants: Participants
    children: Callable[[int], Sequence[SagaState]] = lambda position: ()
    harmless: Callable[[SagaState], bool] = lambda child: False
    holders: dict[int, str] = field(default_factory=dict)
    parents: set[int] = field(default_factory=set)
    awaited: dict[int, str] = field(default_factory=dict)
    cancelled: bool = False
    run: int = 0

    # --- while it runs

    def claimed(self, before: SagaState, after: SagaState, position: int, epoch: int, who: str) -> None:
        """A claim has taken hold."""
        step = before.steps[position]
        require(before.epoch == epoch, f"rule 4: a claim of epoch {epoch} took hold in epoch {before.epoch}")
        require(before.status in ACTIVE, f"rule 4: a claim took hold while the saga is {before.status}")
        require(before.paused_at is None, "rule 4: a claim took hold while the saga is paused")
        require(step.lease_until is None, f"rule 4: {step.name} was claimed twice")
        if before.backward:
            self._backward_due(before, step)
        else:
            stage = self.definition.steps[position].stage
            early = [s.name for s in before.steps if self._stage(s) < stage and s.status not in PASSED]
            require(not early, f"rule 4: {step.name} was claimed before {early} had passed")
        self.holders[position] = who

    def _backward_due(self, before: SagaState, step: StepState) -> None:
        flying = [s.name for s in before.steps if s.in_flight]
        require(not flying, f"rule 13: {step.name} is undone while {flying} is in flight")
        unplaced = [s.name for s in self.undo_set(before) if s.sequence is None]
        require(not unplaced, f"rule 13: {unplaced} is to be undone and has no place in the order of doing")
        later = [s.name for s in self.undo_set(before) if (s.sequence or 0) > (step.sequence or 0)]
        require(not later, f"rule 13: {step.name} is undone before the later {later}")
        require(step in self.undo_set(before), f"rule 10: {step.name} is undone but had no effect to undo")

    def applied(self, before: SagaState, decision: Decision, after: SagaState, cause: Cause) -> None:
        """A decision has taken hold."""
        require(
            decision.guard == before.rev,
            f"rule 6: a decision on revision {decision.guard} took hold at {before.rev}",
        )
        turned = any(entry.kind == "saga_turned" for entry in decision.audit)
        far = turned or cause.by_person or before.retreat_to is not None
        require(
            after.status is before.status or _leads(before.status, after.status, far=far),
            f"the saga went from {before.status} to {after.status}, which is no edge",
        )
        for entry in decision.audit:
            require(
                entry.detail.get("code") != "definition_error" or entry.kind not in ALERTS,
                f"the definition raises an error: {entry.detail.get('reason')}",
            )
        if cause.records is not None:
            holder = self.holders.get(cause.records)
            require(
                holder == cause.who,
                f"rule 6: a stale record of {cause.who} took hold, {holder} has the claim",
            )
        if after.epoch != before.epoch:
            turns = turned or before.backward is not after.backward
            require(turns or cause.by_person, "rule 3: the epoch changed without a turn or a person")
        again = before.status in FINISHED and after.status not in FINISHED | {Status.COMPENSATING}
        retreated = before.retreat_to is not None or turned
        if again or (retreated and after.status in (Status.IN_PROGRESS, Status.WAITING)):
            self.run += 1
        self.cancelled = self.cancelled and not again
        forward = after.status in (Status.IN_PROGRESS, Status.WAITING, Status.COMPLETED)
        require(not (self.cancelled and forward), "rule 24: a cancelled saga goes forward again")
        if turned:
            self._turned(before)
        for old, new in zip(before.steps, after.steps, strict=True):
            self._step_moved(old, new, {e.kind for e in decision.audit if e.step == new.name})
            self._mail_moved(before, after, old, new)
        if after.status in FINISHED:
            self._settled(after)
        if after.status in NEEDS_PERSON and after.status is not before.status:
            kinds = {entry.kind for entry in decision.audit}
            require(bool(kinds & ALERTS), f"the saga is {after.status} without an alert")

    def _turned(self, before: SagaState) -> None:
        for item in self.definition.steps:
            passed = self._net(item.position) or before.steps[item.position].status is StepStatus.COMPLETED
            require(
                not (item.pivot and passed),
                f"rule 15: the saga turned although its pivot {item.name} has taken effect",
            )

    def _step_moved(self, old: StepState, new: StepState, kinds: set[str]) -> None:
        if "child" in (new.request or {}):
            self.parents.add(new.position)
        require(new.generation >= old.generation, f"rule 11: the generation of {new.name} fell")
        require(new.undo_generation >= old.undo_generation, f"rule 11: {new.name}'s undo generation fell")
        if new.generation == old.generation:
            require(new.attempts >= old.attempts, f"rule 6: the attempts of {new.name} fell")
        elif old.effect is Effect.UNKNOWN:
            settled = bool(kinds & {"step_compensated", "step_refused"})
            require(
                settled or not self.undoable(old.position),
                f"rule 11: {new.name} has a new key though the old one's effect is unknown",
            )
        if new.undo_generation == old.undo_generation:
            require(new.undo_attempts >= old.undo_attempts, f"rule 6: {new.name}'s undo attempts fell")
        if new.lease_until is None:
            self.holders.pop(new.position, None)

    def _mail_moved(self, before: SagaState, after: SagaState, old: StepState, new: StepState) -> None:
        if (name := _awaits(old)) is not None:
            self.awaited[old.position] = name
        waited, name = self.awaited.get(old.position), _awaits(new)
        if new.generation > old.generation and waited is not None:
            unread = {mail["name"] for mail in before.mailbox}
            served = new.status is StepStatus.COMPLETED or new.finished_at is not None
            kept = waited in {mail["name"] for mail in after.mailbox}
            require(
                waited not in unread or not (served or kept),
                f"rule 17: an old {waited} serves a new generation of {new.name}",
            )
        if name is not None:
            runs = after.status in (Status.PENDING, Status.IN_PROGRESS, Status.WAITING)
            lies = name in {mail["name"] for mail in after.mailbox}
            require(not (runs and lies), f"rule 17: {new.name} waits for {name}, which lies in the mailbox")

    def _settled(self, after: SagaState) -> None:
        require(after.paused_at is None, f"the saga is {after.status} and paused")
        open_ = [s.name for s in after.steps if s.status in UNSETTLED or s.in_flight or s.due_at]
        require(not open_, f"rule 16: the saga is {after.status} while {open_} is not settled")
        if after.status is not Status.COMPLETED:
            left = [s.name for s in self.undo_set(after)]
            require(not left, f"rule 10: the saga is {after.status} but {left} is not undone")

    def woken(self, state: SagaState, wake_at: datetime | None) -> None:
        """A transition was stored with this wake-up time."""
        running = state.status in ACTIVE and state.paused_at is None and state.deadline_at is not None
        require(
            not running or wake_at is not None, f"rule 7: the saga is {state.status} and nothing will wake it"
        )

    def effect(self) -> None:
        """A participant has just done or undone something."""
        last = self.participants.effects[-1]
        item = self.definition.steps[last.position]
        if last.undone:
            self._undone_in_order(last.position)
        standing = self._standing(last.position, last.run)
        require(standing in (0, 1), f"the effect of {item.name} stands {standing} times")

    def _undone_in_order(self, position: int) -> None:
        stage = self.definition.steps[position].stage
        later = [
            item.name
            for item in self.definition.steps
            if self.undoable(item.position) and item.stage > stage and self._net(item.position) > 0
        ]
        name = self.definition.steps[position].name
        require(not later, f"{name} was undone before {later}, which was done after it")

    def bore(self, position: int) -> None:
        """A step has started a child: it is the only one of its generation, and of those not undone."""
        alive, name = self._alive(position), self.definition.steps[position].name
        require(alive == 1, f"rule 18: {alive} children of {name} live")

    # --- at the end

    def ended(self, state: SagaState, audit: Sequence[Entry]) -> None:
        """Nothing moves any more and nothing will."""
        if state.status in NEEDS_PERSON:
            require(any(e.kind in ALERTS for e in audit), f"the saga is {state.status} without an alert")
            return
        waits = any(step.status is StepStatus.WAITING for step in state.steps)
        if state.awaits_lock or (state.status is Status.WAITING and waits):
            return
        require(state.status in FINISHED, f"the saga stays {state.status} for ever, silently")
        for item, step in zip(self.definition.steps, state.steps, strict=True):
            if step.request is None or "value" in step.request:
                continue
            stands = self._standing(item.position, self._run_of(state, step))
            if state.status is Status.COMPLETED and step.effect is Effect.DONE:
                require(stands == 1, f"the saga is completed, and {item.name} has {stands} effects")
            elif state.status is Status.COMPLETED and item.position in self.parents:
                require(stands == 0, f"rule 18: the completed saga leaves a child of {item.name} behind")
            elif state.status is not Status.COMPLETED and self.undoable(step.position):
                left = self._net(item.position)
                require(left == 0, f"the saga is {state.status}, and an effect of {item.name} stands")
            if item.pivot and state.status is not Status.COMPLETED:
                require(stands == 0, f"the saga is {state.status} though its pivot {item.name} took effect")

    def undo_set(self, state: SagaState) -> list[StepState]:
        """What must be undone: done or perhaps done, and declared with an inverse (rule 10)."""
        return [
            step
            for step in state.steps
            if step.effect in (Effect.DONE, Effect.UNKNOWN) and self.undoable(step.position)
        ]

    def undoable(self, position: int) -> bool:
        """Whether a step has an inverse: its own, or that of the child saga which it starts."""
        return self.definition.steps[position].undo is not None or position in self.parents

    def leaves_nothing(self, state: SagaState) -> bool:
        """Whether a saga has completed and there is nothing that its parent could have undone."""
        pivots = [item.position for item in self.definition.steps if item.pivot]
        taken = any(self.participants.net(position) for position in pivots)
        return state.status is Status.COMPLETED and not taken and not self.undo_set(state)

    def _net(self, position: int) -> int:
        """How many effects of a step there are to undo; a child is one, unless nothing of it is."""
        if position in self.parents:
            return sum(
                child.status not in UNDONE and not self.harmless(child) for child in self.children(position)
            )
        return self.participants.net(position)

    def _alive(self, position: int) -> int:
        """How many children of a step count: the latest and those before it, unless they are undone."""
        *before, latest = self.children(position)
        left = [child for child in before if not self.harmless(child)]
        return sum(child.status not in UNDONE for child in [*left, latest])

    def _standing(self, position: int, run: int) -> int:
        """How many effects stand; of a step without inverse, those of one run of the saga."""
        if position in self.parents:
            return self._alive(position) if self.children(position) else 0
        if self.undoable(position):
            return self._net(position)
        return self.participants.done(position, run)

    def _run_of(self, state: SagaState, step: StepState) -> int:
        """The run in which the step's present key took effect: a later run may begin behind the step."""
        key = idempotency_key(state.id, step, backward=False)
        return next((e.run for e in self.participants.effects if e.key == key), self.run)

    def _stage(self, step: StepState) -> int:
        return self.definition.steps[step.position].stage


def _awaits(step: StepState) -> str | None:
    """The signal that a step waits for now."""
    wait = step.wait or {}
    waits = step.status is StepStatus.WAITING and wait.get("kind") in ("signal", "approval")
    return wait["name"] if waits else None


def _leads(before: Status, after: Status, *, far: bool) -> bool:
    """Whether one decision may lead from one status to another: by an edge, or `far`, by up to three."""
    reached = {before}
    for _ in range(3 if far else 1):
        reached |= {end for status in reached for end in SAGA_EDGES[status]}
    return after in reached


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a decision was made: by whom, and which claimed step it records, if it does."""

    who: str
    records: int | None = None
    by_person: bool = False
