"""Three loads and what a client sees of each: all at once, one at a time, at a steady rate."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import ClassVar, Protocol

BURST_POLL = 0.02
ASKED_AT_ONCE = 10
LONE_POLL = 0.0005
OPEN_LOOP_POLL = 0.001
RATE = 20.0
LIMIT = 120.0


class Runner(Protocol):
    """One contender."""

    name: ClassVar[str]

    def start(self, refused: bool) -> str:
        """Start one saga; returns its id. `refused`: at the fourth step."""

    def ended(self, ids: Collection[str]) -> set[str]:
        """Which of `ids` have ended."""


class Stuck(Exception):
    """Sagas that were started have not ended in time."""


def burst(runner: Runner, count: int, *, refused: bool, started: Callable[[], None] = lambda: None) -> float:
    """Start `count` sagas as fast as they can be started; seconds from the first start to the last end.

    `started` is called as soon as all are under way.
    """
    began = time.monotonic()
    left = [runner.start(refused) for _ in range(count)]
    started()
    while left:
        asked = left[:ASKED_AT_ONCE]  # the oldest: a look costs the same whatever `count` is
        ended = runner.ended(asked)
        left = [saga for saga in left if saga not in ended]
        if left and len(ended) < len(asked):
            in_time(began, runner, len(left))
            time.sleep(BURST_POLL)
    return time.monotonic() - began


def lone(runner: Runner, count: int, *, refused: bool) -> list[float]:
    """One saga after the other; milliseconds from before each start until its end is seen."""
    found = []
    for _ in range(count):
        began = time.monotonic()
        saga = {runner.start(refused)}
        while not runner.ended(saga):
            in_time(began, runner, 1)
            time.sleep(LONE_POLL)
        found.append((time.monotonic() - began) * 1000)
    return found


@dataclass(frozen=True, slots=True)
class Arrival:
    """A saga of the open loop, and when it was to be started."""

    saga: str
    due: float


def open_loop(runner: Runner, count: int, *, refused: bool) -> list[float]:
    """`RATE` sagas a second, whatever becomes of those before; milliseconds from each one's due time.

    Counted from the due time, so that a start that comes late is not forgiven.
    """
    began = time.monotonic()
    arrivals: dict[str, Arrival] = {}
    found: list[float] = []
    number = 0
    while number < count or arrivals:
        due = began + number / RATE
        if number < count and time.monotonic() >= due:
            saga = runner.start(refused)
            arrivals[saga] = Arrival(saga, due)
            number += 1
        if arrivals:
            ended = runner.ended(arrivals.keys())
            now = time.monotonic()
            found.extend((now - arrivals.pop(saga).due) * 1000 for saga in ended)
        in_time(began, runner, len(arrivals))
        time.sleep(OPEN_LOOP_POLL)
    return found


def in_time(began: float, runner: Runner, left: int) -> None:
    """Raise once `LIMIT` has passed since `began`."""
    if time.monotonic() - began > LIMIT:
        raise Stuck(f"{runner.name}: {left} sagas have not ended within {LIMIT:g} s")
