"""Scenarios that read like the business: given a saga, when a call goes wrong, how it ends.

    given(PurchaseSaga, data).when("process-payment", refused("insufficient funds"))
        .expect("release-inventory").ends("compensated")

A step that starts another saga starts the real one; its steps are told of as `child/step`. No
server, no database, virtual time. Whatever a scenario asserts, the engine's own invariants are
checked as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Self

from sagas.definition import Cached, SagaDefinition
from sagas.errors import DefinitionError
from sagas.state import CachedResult, Refused, SagaState, Status, StepState
from sagas.testing.invariants import BrokenInvariant
from sagas.testing.matrix import instance
from sagas.testing.stage import undo_name
from sagas.testing.trouble import Meanwhile, Reply, Trouble
from sagas.testing.world import World

ALWAYS = 1_000_000


@dataclass(frozen=True, slots=True)
class Happening:
    """What happens to the next `times` calls of a step."""

    reply: Reply
    times: int = 1


def refused(reason: str, code: str = "refused") -> Happening:
    """The participant says no, for good."""
    return Happening(Reply(Trouble.REFUSED, Refused(code, reason)))


def transient(reason: str = "busy", *, times: int = 1, retry_after: timedelta | None = None) -> Happening:
    """The call is provably not processed; after `times` of them it is."""
    return Happening(Reply(Trouble.TRANSIENT, reason=reason, retry_after=retry_after), times)


def unknown(reason: str = "connection reset", *, times: int = 1) -> Happening:
    """The request is lost, and the engine cannot know it."""
    return Happening(Reply(Trouble.LOST_REQUEST, reason=reason), times)


def lost_answer(reason: str = "connection reset", *, times: int = 1) -> Happening:
    """The participant does it, but its answer is lost."""
    return Happening(Reply(Trouble.LOST_ANSWER, reason=reason), times)


def late(*, times: int = 1) -> Happening:
    """The call times out, and its request reaches the participant a day later."""
    return Happening(Reply(Trouble.DAY_LATE), times)


def forbidden() -> Happening:
    """The participant answers 401: a person must look."""
    return Happening(Reply(Trouble.FORBIDDEN))


def accepted(*, calls_back: bool = True) -> Happening:
    """The participant answers 202 and does it later; its callback comes, or the engine has to ask."""
    return Happening(Reply(Trouble.ACCEPTED if calls_back else Trouble.ACCEPTED_MUTE))


def held_back(*, times: int = 1, circuit_open: bool = False) -> Happening:
    """The call is not sent: the participant is at its limit, or its circuit is open."""
    return Happening(Reply(Trouble.CIRCUIT_OPEN if circuit_open else Trouble.HELD_BACK), times)


def worker_lost(*, times: int = 1, after_the_call: bool = True) -> Happening:
    """The worker dies, after the participant did it or before it was asked."""
    return Happening(Reply(Trouble.DIES_AFTER if after_the_call else Trouble.DIES_BEFORE), times)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a scenario went, for what else a test wants to look at.

    `others` are the sagas that ran beside it and all children, by label; of a step that was done
    more than once the latest child.
    """

    state: SagaState
    others: Mapping[str, SagaState]
    compensations: tuple[str, ...]
    calls: tuple[str, ...]
    history: tuple[str, ...]
    took: timedelta

    def step(self, name: str) -> StepState:
        """The step of that name as it ended."""
        return next(step for step in self.state.steps if step.name == name)


@dataclass(slots=True)
class Scenario:
    """One story about one saga, its children and who runs beside it; nothing happens before `ends`."""

    definition: SagaDefinition
    data: Any = None
    happenings: dict[str, list[Happening]] = field(default_factory=dict)
    answers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    known: dict[str, CachedResult] = field(default_factory=dict)
    meanwhile: dict[str, Meanwhile] = field(default_factory=dict)
    signals: dict[str, list[Any]] = field(default_factory=dict)
    children: list[SagaDefinition] = field(default_factory=list)
    others: dict[str, tuple[SagaDefinition, Any]] = field(default_factory=dict)
    expected: Sequence[str] | None = None
    calls: list[str] = field(default_factory=list)

    def when(self, step: str, *happenings: Happening) -> Self:
        """Let the next calls of a step, or of a compensation, go like this, one after the other."""
        self._known(step)
        self.happenings.setdefault(step, []).extend(happenings)
        return self

    def answering(self, step: str, **result: Any) -> Self:
        """Let a step answer with just this; without it, its answer has any field that is asked for."""
        self._known(step)
        self.answers[step] = result
        return self

    def cached(self, step: str, *, age: timedelta = timedelta(0), **result: Any) -> Self:
        """What a step with `fallback=Cached(...)` was answered last, and how long ago that is by then.

        With no `result` it is what the step is answered in this story; untold, nothing is known.
        """
        self._known(step)
        falls_back = [item.name for item in self.definition.steps if isinstance(item.fallback, Cached)]
        if "/" not in step and step not in falls_back:
            raise DefinitionError(f"{step!r} does not fall back to an earlier answer: fallback=Cached(...)")
        self.known[step] = CachedResult(result or None, age)
        return self

    def with_child(self, *definitions: SagaDefinition | type[SagaDefinition]) -> Self:
        """Sagas that steps of this one start, where they are not registered."""
        self.children.extend(instance(definition) for definition in definitions)
        return self

    def beside(
        self, label: str, definition: SagaDefinition | type[SagaDefinition], data: Any = None, **fields: Any
    ) -> Self:
        """Another saga runs at the same time, started a moment later; its steps are `label/step`."""
        self.others[label] = instance(definition), data if data is not None else fields
        return self

    def cancelled_during(self, step: str) -> Self:
        """An operator has the saga, of a child the whole family, undone while `step` is called."""
        return self._during(step, Meanwhile.CANCELLED)

    def timed_out_during(self, step: str) -> Self:
        """The last deadline of the saga that `step` belongs to passes while it is called."""
        return self._during(step, Meanwhile.TIMED_OUT)

    def signalled(self, name: str, data: Any = None) -> Self:
        """What waits for this signal gets it, once it waits; one call of this, one signal."""
        self.signals.setdefault(name, []).append(data)
        return self

    def approved(self, name: str = "approval", *, by_saying: bool = True, **data: Any) -> Self:
        """An operator says yes, or no, to what waits for approval."""
        return self.signalled(name, {"approved": by_saying, **data})

    def expect(self, *compensations: str) -> Self:
        """Just these compensations take effect, in this order."""
        for name in compensations:
            self._known(name)
        self.expected = compensations
        return self

    def ends(self, status: str, *, result: Any = None, code: str | None = None) -> Ended:
        """Run it; the saga must end with this status, and this result and error code if given.

        Raises:
            AssertionError: it does not, or breaks an invariant; with the history.
        """
        world = World(
            self.definition,
            self.data or {},
            children=self.children,
            beside=self.others,
            answers=self.answers,
            cached=self.known,
            script=self._reply,
            meanwhile=self._interruption,
            signals=self.signals,
        )
        state = world.run()
        self._told_of_what_is_there(world)
        ended = Ended(
            state,
            {stage.label: stage.state for stage in world.stages.values() if stage.label},
            tuple(world.compensations),
            tuple(self.calls),
            tuple(world.lines()),
            world.store.elapsed,
        )
        self._compare(ended, Status(status), result, code)
        return ended

    def _compare(self, ended: Ended, status: Status, result: Any, code: str | None) -> None:
        error = ended.state.error or {}
        pairs: list[tuple[str, Any, Any]] = [("status", ended.state.status.value, status.value)]
        if self.expected is not None:
            pairs.append(("compensations", list(ended.compensations), list(self.expected)))
        if result is not None:
            pairs.append(("result", ended.state.result, result))
        if code is not None:
            pairs.append(("error code", error.get("code"), code))
        for what, found, wanted in pairs:
            if found != wanted:
                told = f"{self.definition.type}: {what} is {found!r}, expected {wanted!r}"
                raise BrokenInvariant(told, ended.history)

    def _during(self, step: str, wish: Meanwhile) -> Self:
        self._known(step)
        self.meanwhile[step] = wish
        return self

    def _reply(self, name: str) -> Reply | None:
        self.calls.append(name)
        queue = self.happenings.get(name)
        if not queue:
            return None
        first = queue[0]
        queue[:1] = [replace(first, times=first.times - 1)] if first.times > 1 else []
        return first.reply

    def _interruption(self, moment: str, step: str) -> Meanwhile:
        if moment != "before the record":
            return Meanwhile.NOTHING
        return self.meanwhile.pop(step, Meanwhile.NOTHING)

    def _known(self, name: str) -> None:
        """What is said of this saga can be checked at once, of others once they have run."""
        first, _, below = name.partition("/")
        if below and first in self.others:
            return
        known = [item.name for item in self.definition.steps] if below else _names(self.definition)
        if first not in known:
            raise DefinitionError(f"{self.definition.type} has no {first!r}; it has {', '.join(known)}")

    def _told_of_what_is_there(self, world: World) -> None:
        ran = {stage.label: stage.definition for stage in world.stages.values()}
        told = {*self.happenings, *self.answers, *self.known, *self.meanwhile, *(self.expected or ())}
        for label, _, name in (name.rpartition("/") for name in told):
            if label in ran and name not in _names(ran[label]):
                known = ", ".join(_names(ran[label]))
                raise DefinitionError(f"{ran[label].type} has no {name!r}; it has {known}")


def _names(definition: SagaDefinition) -> list[str]:
    steps = definition.steps
    return [item.name for item in steps] + [undo_name(item) for item in steps]


def given(definition: SagaDefinition | type[SagaDefinition], data: Any = None, **fields: Any) -> Scenario:
    """A story about this saga with this input: `data` as a whole, or its fields by name."""
    return Scenario(instance(definition), data if data is not None else fields)
