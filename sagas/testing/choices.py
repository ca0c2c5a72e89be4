"""What happens by chance in a simulated history, so that it can be repeated, enumerated and shrunk.

A history is a sequence of picks. Each has a name, and options of which the first is "nothing goes
wrong". A history is told by its deviations: which pick took which other option. Names, not
numbers, so that leaving one deviation out does not change what the others mean.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

Deviations = Mapping[str, int]
Option = TypeVar("Option")


@dataclass(slots=True)
class Choices:
    """The picks of one history: the deviations given, else the first option."""

    deviations: Deviations = field(default_factory=dict)
    offered: dict[str, int] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)

    def pick(self, name: str, options: Sequence[Option]) -> Option:
        """One of `options`; the n-th pick of the same name is a pick of its own."""
        self.seen[name] += 1
        point = f"{name} #{self.seen[name]}"
        self.offered[point] = len(options)
        return options[self.index(point, len(options))]

    def index(self, point: str, count: int) -> int:
        """Which of `count` options the pick at `point` takes."""
        return self.deviations.get(point, 0) % count

    def following(self) -> list[Deviations]:
        """The same history with one more deviation, at any point behind the last."""
        points = list(self.offered)
        behind = max((points.index(p) for p in self.deviations if p in self.offered), default=-1) + 1
        return [
            {**self.deviations, point: option}
            for point in points[behind:]
            for option in range(1, self.offered[point])
        ]


@dataclass(slots=True)
class Chance(Choices):
    """Picks drawn from a seed: something goes wrong with probability `trouble`; remembers what did."""

    source: random.Random = field(default_factory=random.Random)
    trouble: float = 0.1
    taken: dict[str, int] = field(default_factory=dict)

    def index(self, point: str, count: int) -> int:
        """Which of `count` options the pick at `point` takes."""
        if count == 1 or self.source.random() >= self.trouble:
            return 0
        self.taken[point] = self.source.randrange(1, count)
        return self.taken[point]
