"""Where a simulated history takes place: sagas in a store, virtual time, participants, actors.

Everything runs in one thread. Whoever acts is a generator that gives way between any two
transactions, so that another may come in between. What goes wrong, and who goes on, is asked of
`Choices`; with none but first options the history is the one in which all is well.

A `Scene` is what all sagas of a history share; each saga has a `Stage` of its own on it. The saga
that the history is about has no label; a child is called by the step that started it, and what
happens to its steps is named `child/step`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sagas.claims import claim_next
from sagas.definition import SagaDefinition, Step, registry
from sagas.state import (
    ACTIVE,
    FINISHED,
    CachedResult,
    Decision,
    Entry,
    Event,
    LockGranted,
    Nothing,
    Outcome,
    Refused,
    SagaState,
)
from sagas.testing.choices import Choices, Option
from sagas.testing.exclusion import Exclusion
from sagas.testing.invariants import Cause, Monitor
from sagas.testing.participants import Participants, Request
from sagas.testing.store import EPOCH, MemoryStore
from sagas.testing.trouble import Commit, Fate, Meanwhile, Script, Trouble
from sagas.transitions import begin, decide

LEASE_MARGIN = timedelta(seconds=10)

Decider = Callable[[SagaDefinition, SagaState, Event, datetime], Decision | Nothing]
Deciding = Callable[[SagaState, datetime], Decision | Nothing]
Moves = Generator[datetime | None, None, None]
Learning = Generator[datetime | None, None, SagaState]


@dataclass(frozen=True, slots=True)
class Message:
    """A doorbell on its way; one without a position says that something waited for may have come."""

    stage: Stage
    position: int | None
    epoch: int
    at: datetime

    def again(self, at: datetime) -> Message:
        """The same, delivered once more."""
        return Message(self.stage, self.position, self.epoch, at)


@dataclass(slots=True)
class Actor:
    """Somebody in the middle of something; `at` is when they go on."""

    who: str
    moves: Moves
    at: datetime
    message: Message | None = None
    last_turn: int = 0


@dataclass(slots=True)
class Settled:
    """What became of a decision: itself, or why nothing was written; and what was claimed with it."""

    decision: Decision | Nothing
    claimed: int | None = None


Settling = Generator[datetime | None, None, Settled]


@dataclass(slots=True)
class Scene:
    """What all sagas of one history share.

    `children` are definitions that its sagas start and that are not registered; `beside` are sagas
    that run at the same time, by label. `answers`, `cached` and `signals` go by qualified names; a
    cached result of None stands for what the step is answered as a rule.
    """

    definition: SagaDefinition
    data: Any
    choices: Choices = field(default_factory=Choices)
    store: MemoryStore = field(default_factory=MemoryStore)
    decider: Decider = decide
    contract: type[Participants] = Participants
    children: Sequence[SagaDefinition] = ()
    beside: Mapping[str, tuple[SagaDefinition, Any]] = field(default_factory=dict)
    answers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cached: Mapping[str, CachedResult] = field(default_factory=dict)
    script: Script | None = None
    meanwhile: Callable[[str, str], Meanwhile] | None = None
    signals: dict[str, list[Any]] = field(default_factory=dict)
    stages: dict[UUID, Stage] = field(default_factory=dict)
    exclusion: Exclusion = field(default_factory=Exclusion)
    history: list[tuple[datetime, str]] = field(default_factory=list)
    compensations: list[str] = field(default_factory=list)
    actors: list[Actor] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)

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

    def latest(self, saga_type: str) -> SagaDefinition:
        """The definition of a child.

        Raises:
            UnknownSagaType: it is neither among `children` nor registered.
        """
        known = next((item for item in self.children if item.type == saga_type), None)
        return known or registry.latest(saga_type)

    def begin(
        self,
        definition: SagaDefinition,
        data: Any,
        *,
        label: str = "",
        parent: Stage | None = None,
        position: int = 0,
        key: str | None = None,
    ) -> Stage:
        """Store a new saga as `engine.start` does, or find the one that was started under `key`.

        Raises:
            InvalidInput: `data` does not fit it.
            LockHeld: another saga holds its lock, and the definition refuses to wait for it.
        """
        parsed, clean = definition.parse(data)
        lock = own = definition.lock_key(parsed)
        if lock is not None and parent is not None and self.store.root_holds(parent.saga_id, lock):
            own = None  # re-entrant within one root saga (rule 18)
        stage = Stage(self, definition, UUID(int=len(self.stages) + 1), label, parent, position, lock)
        made = begin(
            definition,
            stage.saga_id,
            clean,
            "simulated",
            self.now,
            entry=Entry("saga_started"),
            lock_key=own,
            parent_id=parent.saga_id if parent is not None else None,
        )
        found = self.store.insert(made, idempotency_key=key)
        if found != stage.saga_id:
            return self.stages[found]
        self.stages[stage.saga_id] = stage
        if made.takes_lock:
            self.exclusion.queued(stage)
        stage.note(f"{definition.type} starts")
        if parent is not None:
            parent.monitor.bore(position)
        stage.woken()
        return stage


@dataclass(slots=True)
class Stage:
    """One saga and all that surrounds it, for whoever acts on it.

    `lock` is what the saga shuts others out of, by itself or because its family holds it.
    """

    scene: Scene
    definition: SagaDefinition
    saga_id: UUID
    label: str = ""
    parent: Stage | None = None
    position: int = 0
    lock: str | None = None
    participants: Participants = field(init=False)
    monitor: Monitor = field(init=False)
    sticky: dict[tuple[int, bool], Trouble] = field(default_factory=dict)

    def __post_init__(self) -> None:
        before = self.called("")
        answers = {n.removeprefix(before): a for n, a in self.scene.answers.items() if n.startswith(before)}
        self.participants = self.scene.contract(answers)
        self.monitor = Monitor(self.definition, self.participants, self.children, self._harmless)

    @property
    def store(self) -> MemoryStore:
        """Where everything is stored."""
        return self.scene.store

    @property
    def state(self) -> SagaState:
        """The saga as committed now."""
        return self.store.load(self.saga_id)

    @property
    def now(self) -> datetime:
        """Virtual time."""
        return self.scene.now

    @property
    def root(self) -> Stage:
        """The saga that began the family."""
        return self if self.parent is None else self.parent.root

    def children(self, position: int) -> list[SagaState]:
        """The child sagas that a step has started, one a generation."""
        stages = self.scene.stages.values()
        return [s.state for s in stages if s.parent is self and s.position == position]

    def _harmless(self, child: SagaState) -> bool:
        """Whether a child has completed and there is nothing of it to undo."""
        return self.scene.stages[child.id].monitor.leaves_nothing(child)

    def called(self, name: str) -> str:
        """A step's name as stories and answers know it."""
        return f"{self.label}/{name}" if self.label else name

    def note(self, text: str) -> None:
        """Add a line to the history."""
        self.scene.note(f"[{self.label}] {text}" if self.label else text)

    def pick(self, name: str, options: Sequence[Option]) -> Option:
        """What chance has for this saga."""
        return self.scene.pick(self.called(name), options)

    def act(
        self, who: str, moves: Moves, *, at: datetime | None = None, message: Message | None = None
    ) -> None:
        """Somebody begins something with this saga."""
        self.scene.act(who, moves, at=at, message=message)

    def ring(self, state: SagaState, positions: Sequence[int]) -> None:
        """Send a message for each position, and word of an end, with what may become of them."""
        for position in positions:
            at = max(state.steps[position].due_at or self.now, self.now)
            name = self.name(state, position)
            fate = self.pick(f"message for {name}", tuple(Fate))
            if fate is not Fate.SENT:
                self.note(f"the message for {name} {fate}")
            if fate is Fate.LOST:
                continue
            late = timedelta(days=1) if fate is Fate.DAY_LATE else timedelta(0)
            message = Message(self, position, state.epoch, at + late)
            self.scene.messages.extend([message] * (2 if fate is Fate.TWICE else 1))
        if state.status in FINISHED:
            self._tell(self.parent)
            if state.lock_key is not None:
                self._tell(self.scene.stages.get(self.store.first_in_line(state.lock_key) or self.saga_id))

    def _tell(self, other: Stage | None) -> None:
        """Who waits for this saga's end is told, or finds out by looking."""
        if other is None or other is self:
            return
        if self.pick("word of its end", (Fate.SENT, Fate.LOST)) is Fate.SENT:
            self.scene.messages.append(Message(other, None, 0, self.now))

    def name(self, state: SagaState, position: int) -> str:
        """The step, or its compensation if that is what is due."""
        item = self.definition.steps[position]
        return undo_name(item) if state.backward else item.name

    def take_lock(self, who: str) -> Learning:
        """Queue for the saga's lock, and begin if it is granted."""
        self.scene.exclusion.queued(self)
        if not self.store.take_lock(self.saga_id):
            return self.state
        yield None
        return (yield from self.happen(LockGranted(), who))

    def decided(self, event: Event) -> Deciding:
        """How the engine decides on an event."""
        return lambda known, now: self.scene.decider(self.definition, known, event, now)

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
        if any(entry.kind == "lock_granted" for entry in plain.audit):
            self.scene.exclusion.granted(self)
        if claimed is not None:
            self.claimed(plain.state, stored, claimed, plain.state.epoch, cause.who)
        self.woken()

    def claimed(self, before: SagaState, after: SagaState, position: int, epoch: int, who: str) -> None:
        """A claim has taken hold: look whether it may."""
        self.monitor.claimed(before, after, position, epoch, who)
        self.scene.exclusion.claimed(self)

    def woken(self) -> None:
        """Check that something will wake the saga."""
        row = self.store.rows[self.saga_id]
        self.monitor.woken(row.state, row.wake_at or row.resume_at)

    def happen(self, event: Event, who: str) -> Learning:
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
                self.scene.compensations.append(self.called(request.step))
            self.monitor.effect()
        return answer


def undo_name(item: Step) -> str:
    """The name of a step's compensation; that of a step which starts a child is made up."""
    return item.undo.name if item.undo is not None else f"undo-{item.name}"


def due(state: SagaState) -> tuple[int, ...]:
    """The steps that may be claimed now or after a pause."""
    if state.status not in ACTIVE or state.paused_at is not None:
        return ()
    return tuple(step.position for step in state.steps if step.due_at is not None)
