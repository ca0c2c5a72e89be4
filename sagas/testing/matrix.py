"""Every failure at every point, and thousands of random histories, until one breaks an invariant."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Any

from sagas.definition import SagaDefinition
from sagas.state import SagaState, Status
from sagas.testing.choices import Chance, Choices, Deviations
from sagas.testing.invariants import BrokenInvariant
from sagas.testing.world import World

Build = Callable[[Choices], World]


@dataclass(slots=True)
class Report:
    """What a search has seen: how many histories, and how many ended how."""

    histories: int = 0
    ends: Counter[Status] = field(default_factory=Counter)

    def saw(self, state: SagaState) -> None:
        """Count one history."""
        self.histories += 1
        self.ends[state.status] += 1

    def __str__(self) -> str:
        ends = ", ".join(f"{count} {status}" for status, count in self.ends.most_common())
        return f"{self.histories} histories: {ends}"


def instance(definition: SagaDefinition | type[SagaDefinition]) -> SagaDefinition:
    """The definition itself, of a class or an instance of it."""
    return definition() if isinstance(definition, type) else definition


def crash_matrix(
    definition: SagaDefinition | type[SagaDefinition],
    data: Any = None,
    *,
    answers: Mapping[str, Mapping[str, Any]] | None = None,
    children: Sequence[SagaDefinition | type[SagaDefinition]] = (),
    depth: int = 2,
    limit: int = 3000,
    build: Build | None = None,
) -> Report:
    """Run a definition through every failure at every point, then through pairs of failures.

    At each point of the undisturbed history (a message sent, a claim, a call, an answer, a commit)
    all that may go wrong there goes wrong, one thing at a time: refusals, transient and unknown
    outcomes, crashes, doubled, lost and late messages, cancel, timeout. With `depth` 2 or more a
    second failure follows the first at every later point, at most `limit` histories in all, evenly
    spread. `data` is the input; `answers` gives results of steps, by name, where later steps
    compute with them, those of a child as `child/step`; `children` are the definitions of children
    that are not registered. A saga that takes a semantic lock has another one of its kind beside it.

    Raises:
        BrokenInvariant: with the shortest history that breaks an invariant.
    """
    real = instance(definition)
    make = build or world_of(real, data, answers=answers, children=children)
    report = Report()
    level: list[Deviations] = [{}]
    for reached in range(depth + 1):
        following: list[Deviations] = []
        for deviations in level:
            choices = Choices(deviations)
            report.saw(make(choices).run())
            if reached < depth:
                following.extend(choices.following())
        room = limit - report.histories
        level = following if len(following) <= room else _spread(following, max(room, 0))
    return report


def world_of(
    definition: SagaDefinition,
    data: Any = None,
    *,
    answers: Mapping[str, Mapping[str, Any]] | None = None,
    children: Sequence[SagaDefinition | type[SagaDefinition]] = (),
    **parts: Any,
) -> Build:
    """How to build the world of a saga and its children, with a rival if it takes a lock."""
    input_ = data or {}
    rival = {"rival": (definition, input_)} if type(definition).lock is not None else {}
    parts = {"beside": rival, "answers": answers or {}, **parts}
    parts["children"] = [instance(child) for child in children]
    return lambda choices: World(definition, input_, choices, **parts)


def _spread(items: list[Deviations], count: int) -> list[Deviations]:
    return [items[i * len(items) // count] for i in range(count)]


def random_histories(build: Callable[[int, Choices], World], count: int, *, seed: int = 0) -> Report:
    """Run `count` random histories; `build` makes the world of history number n.

    Raises:
        BrokenInvariant: with a history from which nothing can be left out.
    """
    report = Report()
    for number in range(count):
        source = random.Random(seed * 1_000_003 + number)  # noqa: S311  reproducible, not secret
        choices = Chance(source=source, trouble=source.choice((0.02, 0.05, 0.1, 0.25, 0.5)))
        try:
            report.saw(build(number, choices).run())
        except BrokenInvariant as error:
            shortest = shrink(partial(build, number), choices.taken, error)
            lines = [f"history {number} of seed {seed}", *shortest.history]
            raise BrokenInvariant(shortest.broken, lines) from error
    return report


def shrink(build: Build, deviations: Deviations, error: BrokenInvariant) -> BrokenInvariant:
    """The failure that is left when no deviation can be left out any more."""
    kept, shortest = dict(deviations), error
    size = len(kept)
    while size:
        points, removed = list(kept), False
        for start in range(0, len(points), size):
            fewer = {p: kept[p] for p in kept if p not in points[start : start + size]}
            failure = _failure(build, fewer) if len(fewer) < len(kept) else None
            if failure is not None:
                kept, shortest, removed = fewer, failure, True
        if not removed or not kept:
            size //= 2
    for simple in _simple(kept):
        failure = _failure(build, simple) if len(simple) < len(kept) else None
        if failure is not None:
            return failure
    return shortest


def _simple(deviations: Deviations) -> Iterator[Deviations]:
    """One or two of the deviations, each at the first point of its name."""
    first = [(f"{point.rpartition('#')[0]}#1", option) for point, option in deviations.items()]
    for number in (1, 2):
        for chosen in combinations(first, number):
            yield dict(chosen)


def _failure(build: Build, deviations: Deviations) -> BrokenInvariant | None:
    try:
        build(Choices(deviations)).run()
    except BrokenInvariant as error:
        return error
    return None
