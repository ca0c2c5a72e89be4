"""A simulated world: workers, messages, scans, people and participants around the real decisions."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sagas.definition import plain
from sagas.errors import SagaError
from sagas.interventions import Wish
from sagas.state import Entry, SagaState, Status, StepStatus
from sagas.testing import outside
from sagas.testing.invariants import BrokenInvariant
from sagas.testing.participants import Anything
from sagas.testing.stage import Actor, Message, Moves, Stage, due
from sagas.testing.trouble import AtTheEnd, Meanwhile
from sagas.testing.workers import WorkerDied, work
from sagas.transitions import begin

REDELIVERED_AFTER = timedelta(minutes=15)
MOST_MOVES = 3000
VERBS = {
    AtTheEnd.RETRY: "retry",
    AtTheEnd.CANCEL: "compensate",
    AtTheEnd.GO_BACK: "retry-from",
    AtTheEnd.LEAVE_OUT: "skip",
}
ENGINE_ERRORS = (SagaError, AssertionError, LookupError, TypeError, ValueError, AttributeError)


@dataclass(slots=True)
class World(Stage):
    """A stage on which time passes and everybody gets their turn."""

    workers: int = 0
    troubles_left: int = 2
    asked: set[tuple[int, int]] = field(default_factory=set)

    def run(self) -> SagaState:
        """Start the saga and let the world go on until nothing moves; then see how things stand.

        Raises:
            BrokenInvariant: with the history.
        """
        try:
            self.start()
            self.rest()
            self._epilogue()
        except BrokenInvariant as error:
            raise BrokenInvariant(error.broken, self.lines()) from None
        except ENGINE_ERRORS as error:
            self.note(f"{type(error).__name__}: {error}")
            raise BrokenInvariant("the engine raised an error", self.lines()) from error
        return self.state

    def start(self) -> None:
        """Store the saga and ring for it."""
        parsed = self.definition.parse(self.data)
        made = begin(
            self.definition,
            self.saga_id,
            plain(parsed),
            "simulated",
            self.now,
            entry=Entry("saga_started"),
            lock_key=self.definition.lock_key(parsed),
        )
        self.store.insert(made)
        self.note(f"{self.definition.type} starts")
        self.woken()
        self.ring(self.state, due(self.state))
        if self.state.lock_key is not None:
            self.act("its lock", outside.resume(self))

    def rest(self) -> None:
        """Go on until nothing moves any more, and check how the saga has ended."""
        for _ in range(MOST_MOVES):
            if not self._move():
                break
        else:
            raise BrokenInvariant(f"the world does not come to rest in {MOST_MOVES} moves", ())
        self.note(f"at rest: the saga is {self.state.status}")
        self.monitor.ended(self.state, self.store.audit(self.saga_id))

    def _epilogue(self) -> None:
        wish = self.pick("the end", tuple(AtTheEnd))
        if wish is AtTheEnd.NOTHING:
            return
        self.sticky.clear()
        self.troubles_left = 0
        left = [
            s.name for s in self.state.steps if s.status not in (StepStatus.COMPLETED, StepStatus.SKIPPED)
        ]
        step = left[0] if left and wish is AtTheEnd.LEAVE_OUT else self.definition.steps[0].name
        self.act(
            "an operator",
            outside.intervene(self, VERBS[wish], wish=Wish(step=step, data=self._by_hand(step))),
        )
        self.rest()

    # --- Who goes on

    def _move(self) -> bool:
        actors = [a for a in self.actors if a.at <= self.now]
        messages = [m for m in self.messages if m.at <= self.now]
        if not actors and not messages:
            return self._hear_outside() or self._pass_time()
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
        """In a story members of a group go along side by side, and who comes in between goes first."""
        between = [a for a in actors if a.message is None]
        if between:
            self._go_on(between[0])
        elif messages:
            self._deliver(messages[0])
        else:
            self._go_on(min(actors, key=lambda actor: actor.turns))

    def _first(self, names: list[str]) -> int:
        """Who of several goes on; the first one unless chance has it otherwise."""
        if len(names) == 1:
            return 0
        chosen = self.pick(f"turn at {self.state.rev}", range(len(names)))
        if chosen:
            self.note(f"now {names[chosen]} goes on")
        return chosen

    def _go_on(self, actor: Actor) -> None:
        if actor is not self.actors[0]:
            self.actors.remove(actor)
            self.actors.insert(0, actor)
        actor.turns += 1
        try:
            actor.at = next(actor.moves) or self.now
        except StopIteration:
            self.actors.remove(actor)
        except WorkerDied:
            self.actors.remove(actor)
            if actor.message is not None:
                again = Message(actor.message.position, actor.message.epoch, self.now + REDELIVERED_AFTER)
                self.messages.append(again)

    def _deliver(self, message: Message) -> None:
        self.messages.remove(message)
        self.workers += 1
        who = f"worker {self.workers}"
        self.act(who, work(self, who, message, self._interruption), message=message)

    def _hear_outside(self) -> bool:
        """What a saga waits for comes when nothing else is going on."""
        state = self.state
        if state.status is not Status.WAITING or state.paused_at is not None:
            return False
        for step in state.steps:
            waits = step.status is StepStatus.WAITING and (step.wait or {}).get("kind")
            if waits not in ("signal", "approval") or (step.position, step.generation) in self.asked:
                continue
            if self.script is not None and not self.signals.get((step.wait or {})["name"]):
                continue
            self.asked.add((step.position, step.generation))
            self.act("the outside", outside.send_signals(self, step, len(self.asked)))
            return True
        return False

    def _pass_time(self) -> bool:
        wake = self.store.next_wake()
        if wake is not None and wake <= self.now:
            for take in (self.store.take_waiting, self.store.take_interrupted):
                self.act("the recovery scan", outside.scan(take, lambda: outside.resume(self)))
            self.act("the timeout scan", outside.scan(self.store.take_overdue, lambda: outside.give_up(self)))
            return True
        times = [*(a.at for a in self.actors), *(m.at for m in self.messages), *([wake] if wake else [])]
        if not times:
            return False
        self.store.clock.reach(min(times))
        return True

    # --- What comes between

    def _interruption(self, moment: str, position: int) -> Moves:
        """A moment between two transactions, at which others may come in."""
        if self.meanwhile is not None:
            wish = self.meanwhile(moment, self.state.steps[position])
        elif self.troubles_left and self.script is None:
            wish = self.choices.pick(f"{moment} of {position}", tuple(Meanwhile))
        else:
            wish = Meanwhile.NOTHING
        if wish is not Meanwhile.NOTHING:
            self.troubles_left -= 1
            self.act(wish.value, self._meanwhile(wish, position))
        yield None

    def _by_hand(self, step: str) -> Any:
        """What an operator gives as the output of a step: what the step would have answered."""
        return dict(self.participants.answers.get(step, {})) or Anything(step)

    def _meanwhile(self, wish: Meanwhile, position: int) -> Moves:
        names = [item.name for item in self.definition.steps]
        match wish:
            case Meanwhile.CANCELLED:
                return outside.intervene(self, "compensate", "cancelled")
            case Meanwhile.PAUSED:
                return outside.pause(self)
            case Meanwhile.HURRIED:
                return outside.intervene(self, "retry")
            case Meanwhile.SENT_BACK | Meanwhile.SENT_HERE:
                here = names[position if wish is Meanwhile.SENT_HERE else 0]
                return outside.intervene(self, "retry-from", wish=Wish(step=here))
            case Meanwhile.LEFT_OUT:
                behind = names[min(position + 1, len(names) - 1)]
                return outside.intervene(self, "skip", wish=Wish(step=behind, data=self._by_hand(behind)))
            case _:
                times = 1 if wish is Meanwhile.OVERDUE else self.definition.extensions + 1
                return outside.time_out(self, times)
