"""Where a simulated history takes place: one saga in a store, virtual time, participants, actors.

Everything runs in one thread. Whoever acts is a generator that gives way between any two
transactions, so that another may come in between. What goes wrong, and who goes on, is asked of
`Choices`; with none but first options the history is the one in which all is well.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sagas.claims import claim_next
from sagas.definition import SagaDefinition, Step
from sagas.state import ACTIVE, Decision, Entry, Event, Nothing, Outcome, Refused, SagaState, StepState
from sagas.testing.choices import Choices, Option
from sagas.testing.invariants import Cause, Monitor
from sagas.testing.participants import Participants, Request
from sagas.testing.store import EPOCH, MemoryStore
from sagas.testing.trouble import Commit, Fate, Meanwhile, Script, Trouble
from sagas.transitions import decide

LEASE_MARGIN = timedelta(seconds=10)

Decider = Callable[[SagaDefinition, SagaState, Event, datetime], Decision | Nothing]
Deciding = Callable[[SagaState, datetime], Decision | Nothing]
Moves = Generator[datetime | None, None, None]


@dataclass(frozen=True, slots=True)
class Message:
    """A doorbell on its way."""

    position: int
    epoch: int
    at: datetime


@dataclass(slots=True)
class Actor:
    """Somebody in the middle of something; `at` is when they go on."""

    who: str
    moves: Moves
    at: datetime
    message: Message | None = None
    turns: int = 0


@dataclass(slots=True)
class Settled:
    """What became of a decision: itself, or why nothing was written; and what was claimed with it."""

    decision: Decision | Nothing
    claimed: int | None = None


Settling = Generator[datetime | None, None, Settled]


@dataclass(slots=True)
class Stage:
    """One saga and all that surrounds it, for whoever acts on it."""

    definition: SagaDefinition
    data: Any
    choices: Choices = field(default_factory=Choices)
    store: MemoryStore = field(default_factory=MemoryStore)
    decider: Decider = decide
    answers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    script: Script | None = None
    meanwhile: Callable[[str, StepState], Meanwhile] | None = None
    signals: dict[str, list[Any]] = field(default_factory=dict)
    participants: Participants = field(init=False)
    monitor: Monitor = field(init=False)
    saga_id: UUID = field(default_factory=lambda: UUID(int=1))
    history: list[tuple[datetime, str]] = field(default_factory=list)
    compensations: list[str] = field(default_factory=list)
    actors: list[Actor] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    sticky: dict[tuple[int, bool], Trouble] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.participants = Participants(self.answers)
        self.monitor = Monitor(self.definition, self.participants)

    @property
    def state(self) -> SagaState:
        """The saga as committed now."""
        return self.store.load(self.saga_id)

    @property
    def now(self) -> datetime:
        """Virtual time."""
        return self.store.clock.now

    def note(self, text: str) -> None:
        """Add a line to the history."""
        self.history.append((self.now, text))

    def lines(self) -> list[str]:
        """The history, a line an event, with the seconds since the start."""
        return [f"{(at - EPOCH).total_seconds():>9.1f} s  {text}" for at, text in self.history]

    def pick(self, name: str, options: Sequence[Option]) -> Option:
        """What chance has for us; in a scripted story the first option."""
        return options[0] if self.script is not None else self.choices.pick(name, options)

    def act(
        self, who: str, moves: Moves, *, at: datetime | None = None, message: Message | None = None
    ) -> None:
        """Somebody begins something, now or later; they go first."""
        self.actors.insert(0, Actor(who, moves, at or self.now, message))

    def ring(self, state: SagaState, positions: Sequence[int]) -> None:
        """Send a message for each position, with what may become of it."""
        for position in positions:
            at = max(state.steps[position].due_at or self.now, self.now)
            name = self.name(state, position)
            fate = self.pick(f"message for {name}", tuple(Fate))
            if fate is not Fate.SENT:
                self.note(f"the message for {name} {fate}")
            if fate is Fate.LOST:
                continue
            late = timedelta(days=1) if fate is Fate.DAY_LATE else timedelta(0)
            message = Message(position, state.epoch, at + late)
            self.messages.extend([message] * (2 if fate is Fate.TWICE else 1))

    def name(self, state: SagaState, position: int) -> str:
        """The step, or its compensation if that is what is due."""
        item = self.definition.steps[position]
        return undo_name(item) if state.backward else item.name

    def decided(self, event: Event) -> Deciding:
        """How the engine decides on an event."""
        return lambda known, now: self.decider(self.definition, known, event, now)

    def settle(self, state: SagaState, deciding: Deciding, cause: Cause, *, go_on: bool = False) -> Settling:
        """Decide and apply until it takes hold or there is nothing to do, as `engine.py` does.

        With `go_on` the same transaction claims the step that is due next (inline mode).
        """
        while True:
            decision = deciding(state, self.now)
            if isinstance(decision, Nothing):
                self.note(f"{cause.who} writes nothing: {decision.reason}")
                return Settled(decision)
            joined, claimed = (
                claim_next(self.definition, decision, self.now, LEASE_MARGIN) if go_on else (decision, None)
            )
            yield None
            before = self.state
            if self.store.apply(joined):
                self._applied(before, decision, joined, claimed, cause)
                commit = Commit.DONE
                if cause.records is not None:
                    commit = self.pick(f"commit of {cause.records}", tuple(Commit))
                if commit is Commit.DONE:
                    return Settled(joined, claimed)
                self.note(f"the commit of {cause.who} {commit}: it reads back")
                go_on = False
            state = self.state

    def _applied(
        self, before: SagaState, plain: Decision, joined: Decision, claimed: int | None, cause: Cause
    ) -> None:
        for entry in joined.audit:
            why = ", ".join(str(entry.detail[k]) for k in ("code", "reason") if entry.detail.get(k))
            self.note(f"{cause.who}: {entry.kind} {entry.step} {f'({why})' if why else ''}".rstrip())
        stored = self.state
        self.monitor.applied(before, plain, plain.state if claimed is not None else stored, cause)
        if claimed is not None:
            self.monitor.claimed(plain.state, stored, claimed, plain.state.epoch, cause.who)
        self.woken()

    def woken(self) -> None:
        """Check that something will wake the saga."""
        row = self.store.rows[self.saga_id]
        self.monitor.woken(row.state, row.wake_at or row.resume_at)

    def happen(self, event: Event, who: str) -> Generator[datetime | None, None, SagaState]:
        """Tell the saga what a scan, a participant or the outside has to say."""
        settled = yield from self.settle(self.state, self.decided(event), Cause(who))
        return settled.decision.state if isinstance(settled.decision, Decision) else self.state

    def receive(self, request: Request, refusal: Refused | None = None) -> Outcome:
        """A request arrives at its participant."""
        before = len(self.participants.effects)
        answer = self.participants.receive(request, refusal)
        if len(self.participants.effects) > before:
            self.note(f"{request.step} takes effect")
            if request.undoes is not None:
                self.compensations.append(request.step)
            self.monitor.effect()
        return answer

    def started(self, entry: Entry) -> None:
        """Note the beginning."""
        self.note(f"{self.definition.type}: {entry.kind}")


def undo_name(item: Step) -> str:
    """The name of a step's compensation; that of a step which starts a child is made up."""
    return item.undo.name if item.undo is not None else f"undo-{item.name}"


def due(state: SagaState) -> tuple[int, ...]:
    """The steps that may be claimed now or after a pause."""
    if state.status not in ACTIVE or state.paused_at is not None:
        return ()
    return tuple(step.position for step in state.steps if step.due_at is not None)
