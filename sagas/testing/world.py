"""A simulated world: workers, messages, scans, people and participants around the real decisions."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from sagas import children
from sagas.errors import DefinitionError, LockHeld, SagaError
from sagas.interventions import Wish
from sagas.state import FINISHED, NEEDS_PERSON, SagaState, Status, StepState, StepStatus
from sagas.testing import outside
from sagas.testing.invariants import BrokenInvariant
from sagas.testing.participants import Anything
from sagas.testing.stage import Actor, Message, Moves, Scene, Stage, due
from sagas.testing.trouble import AtTheEnd, Meanwhile
from sagas.testing.workers import WorkerDied, work

REDELIVERED_AFTER = timedelta(minutes=15)
MOST_MOVES = 10_000
VERBS = {
    AtTheEnd.RETRY: "retry",
    AtTheEnd.CANCEL: "compensate",
    AtTheEnd.GO_BACK: "retry-from",
    AtTheEnd.LEAVE_OUT: "skip",
}
ENGINE_ERRORS = (SagaError, AssertionError, LookupError, TypeError, ValueError, AttributeError)


@dataclass(slots=True)
class World(Scene):
    """A scene on which time passes and everybody gets their turn."""

    workers: int = 0
    turns: int = 0
    troubles_left: int = 2
    asked: set[tuple[UUID, int, int]] = field(default_factory=set)

    def run(self) -> SagaState:
        """Start the sagas and let the world go on until nothing moves; then see how things stand.

        Answers the state of the saga that it is about.

        Raises:
            BrokenInvariant: with the history.
            DefinitionError: the story tells of what the definition does not have.
        """
        try:
            main = self._start("", self.definition, self.data)
            for label, (definition, data) in self.beside.items():
                beginning = self._begin_beside(label, definition, data)
                self.actors.append(Actor(f"the start of {label}", beginning, self.now))
            self.rest()
            self._epilogue()
        except BrokenInvariant as error:
            raise BrokenInvariant(error.broken, self.lines()) from None
        except DefinitionError:
            raise
        except ENGINE_ERRORS as error:
            self.note(f"{type(error).__name__}: {error}")
            raise BrokenInvariant("the engine raised an error", self.lines()) from error
        return main.state

    def _start(self, label: str, definition: Any, data: Any) -> Stage:
        stage = self.begin(definition, data, label=label)
        stage.ring(stage.state, due(stage.state))
        if stage.state.awaits_lock:
            self.act("its lock", outside.resume(stage))
        return stage

    def _begin_beside(self, label: str, definition: Any, data: Any) -> Moves:
        try:
            self._start(label, definition, data)
        except LockHeld as error:
            self.note(f"{label} is not accepted: {error}")
        yield None

    def rest(self) -> None:
        """Go on until nothing moves any more, and check how the sagas have ended."""
        for _ in range(MOST_MOVES):
            if not self._move():
                break
        else:
            raise BrokenInvariant(f"the world does not come to rest in {MOST_MOVES} moves", ())
        for stage in self.stages.values():
            stage.note(f"at rest: the saga is {stage.state.status}")
            stage.monitor.ended(stage.state, self.store.audit(stage.saga_id))
        self.exclusion.ended(self.stages.values())

    def _epilogue(self) -> None:
        for stage in list(self.stages.values()):
            wish = stage.pick("the end", tuple(AtTheEnd))
            if wish is not AtTheEnd.NOTHING:
                self._at_the_end(stage, wish)

    def _at_the_end(self, stage: Stage, wish: AtTheEnd) -> None:
        for every in self.stages.values():
            every.sticky.clear()
        self.troubles_left = 0
        settled = (StepStatus.COMPLETED, StepStatus.SKIPPED)
        left = [step.name for step in stage.state.steps if step.status not in settled]
        step = left[0] if left and wish is AtTheEnd.LEAVE_OUT else stage.definition.steps[0].name
        wanted = Wish(step=step, data=_by_hand(stage, step))
        self.act("an operator", outside.intervene(stage, VERBS[wish], wish=wanted))
        self.rest()

    # --- Who goes on

    def _move(self) -> bool:
        actors = [a for a in self.actors if a.at <= self.now]
        messages = [m for m in self.messages if m.at <= self.now]
        if not actors and not messages:
            return any(map(self._hear_outside, list(self.stages.values()))) or self._pass_time()
        if self.script is not None:
            self._take_turns(actors, messages)
            return True
        chosen = self._first([a.who for a in actors] + ["a message" for _ in messages])
        if chosen < len(actors):
            self._go_on(actors[chosen])
        else:
            self._deliver(messages[chosen - len(actors)])
        return True

    def _take_turns(self, actors: list[Actor], messages: list[Message]) -> None:
        """In a story everybody goes along side by side, and who comes in between goes first."""
        between = [a for a in actors if a.message is None]
        if between:
            self._go_on(between[0])
        elif messages:
            self._deliver(messages[0])
        else:
            self._go_on(min(actors, key=lambda actor: actor.last_turn))

    def _first(self, names: list[str]) -> int:
        """Who of several goes on; the first one unless chance has it otherwise."""
        if len(names) == 1:
            return 0
        moment = ".".join(str(stage.state.rev) for stage in self.stages.values())
        chosen = self.pick(f"turn at {moment}", range(len(names)))
        if chosen:
            self.note(f"now {names[chosen]} goes on")
        return chosen

    def _go_on(self, actor: Actor) -> None:
        if actor is not self.actors[0]:
            self.actors.remove(actor)
            self.actors.insert(0, actor)
        self.turns += 1
        actor.last_turn = self.turns
        try:
            actor.at = next(actor.moves) or self.now
        except StopIteration:
            self.actors.remove(actor)
        except WorkerDied:
            self.actors.remove(actor)
            if actor.message is not None:
                self.messages.append(actor.message.again(self.now + REDELIVERED_AFTER))

    def _deliver(self, message: Message) -> None:
        self.messages.remove(message)
        stage = message.stage
        if message.position is None:
            self.act("word of an end", outside.resume(stage))
            return
        self.workers += 1
        who = f"worker {self.workers}"
        moves = work(stage, who, message.position, message.epoch, self._interruption)
        self.act(who, moves, message=message)

    def _hear_outside(self, stage: Stage) -> bool:
        """What a saga waits for comes when nothing else is going on, be it parked by then."""
        state = stage.state
        if state.status not in (Status.WAITING, Status.PARKED) or state.paused_at is not None:
            return False
        for step in state.steps:
            wait, asked = step.wait or {}, (stage.saga_id, step.position, step.generation)
            if step.status is not StepStatus.WAITING or asked in self.asked:
                continue
            if wait.get("kind") not in ("signal", "approval"):
                continue
            if self.script is not None and not self.signals.get(stage.called(wait["name"])):
                continue
            self.asked.add(asked)
            self.act("the outside", outside.send_signals(stage, step, len(self.asked)))
            return True
        return False

    def _pass_time(self) -> bool:
        wake = None if all(map(self._settled, self.stages.values())) else self.store.next_wake()
        if wake is not None and wake <= self.now:
            for take in (self.store.take_waiting, self.store.take_interrupted):
                self.act("the recovery scan", outside.scan(take, outside.resume, self.stages))
            overdue = outside.scan(self.store.take_overdue, outside.give_up, self.stages)
            self.act("the timeout scan", overdue)
            return True
        times = [*(a.at for a in self.actors), *(m.at for m in self.messages), *([wake] if wake else [])]
        if not times:
            return False
        self.store.clock.reach(min(times))
        return True

    def _settled(self, stage: Stage) -> bool:
        """Whether nothing will happen to a saga by itself any more, however often it is looked at."""
        state = stage.state
        if state.status in FINISHED | NEEDS_PERSON:
            return True
        if state.status is not Status.WAITING or state.paused_at is not None:
            return False
        if state.awaits_lock:
            holder = self.stages.get(self.store.holder(state.lock_key or "") or stage.saga_id, stage)
            return holder is not stage and holder.state.status not in FINISHED
        return all(
            self._waits_in_vain(stage, step) for step in state.steps if step.status is StepStatus.WAITING
        )

    def _waits_in_vain(self, stage: Stage, step: StepState) -> bool:
        wait = step.wait or {}
        if wait.get("until"):
            return False
        if wait["kind"] == "child":
            born = stage.children(step.position)
            return bool(born) and children.outcome(born[-1]) is None
        return wait["kind"] in ("signal", "approval")

    # --- What comes between

    def _interruption(self, stage: Stage, moment: str, position: int) -> Moves:
        """A moment between two transactions, at which others may come in."""
        wish, whose = Meanwhile.NOTHING, stage
        if self.meanwhile is not None:
            wish = self.meanwhile(moment, stage.called(stage.definition.steps[position].name))
            whose = stage.root if wish is Meanwhile.CANCELLED else stage
        elif self.troubles_left and self.script is None:
            family = [stage] if stage.parent is None else [stage, stage.root]
            options = [(Meanwhile.NOTHING, stage)]
            options += [(w, s) for s in family for w in Meanwhile if w is not Meanwhile.NOTHING]
            wish, whose = stage.pick(f"{moment} of {position}", options)
        if wish is not Meanwhile.NOTHING:
            self.troubles_left -= 1
            whose.act(wish.value, _meanwhile(whose, wish, position if whose is stage else 0))
        yield None


def _by_hand(stage: Stage, step: str) -> Any:
    """What an operator gives as the output of a step: what the step would have answered."""
    return dict(stage.participants.answers.get(step, {})) or Anything(step)


def _meanwhile(stage: Stage, wish: Meanwhile, position: int) -> Moves:
    names = [item.name for item in stage.definition.steps]
    match wish:
        case Meanwhile.CANCELLED:
            return outside.intervene(stage, "compensate", "cancelled")
        case Meanwhile.PAUSED:
            return outside.pause(stage)
        case Meanwhile.HURRIED:
            return outside.intervene(stage, "retry")
        case Meanwhile.SENT_BACK | Meanwhile.SENT_HERE:
            here = names[position if wish is Meanwhile.SENT_HERE else 0]
            return outside.intervene(stage, "retry-from", wish=Wish(step=here))
        case Meanwhile.LEFT_OUT:
            behind = names[min(position + 1, len(names) - 1)]
            return outside.intervene(stage, "skip", wish=Wish(step=behind, data=_by_hand(stage, behind)))
        case _:
            times = 1 if wish is Meanwhile.OVERDUE else stage.definition.extensions + 1
            return outside.time_out(stage, times)
