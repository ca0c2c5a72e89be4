"""Keeps the participants' databases in order, round by round, until it is told to stop."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType

from django.db import connections

log = logging.getLogger("participants")


@dataclass
class Chore:
    """Something to do every so often; `do` tells how much there was to do."""

    name: str
    do: Callable[[], int]
    every: timedelta
    due: float = 0.0

    def done(self) -> bool:
        """False if it failed; then it is tried again in the next round."""
        try:
            number = self.do()
        except Exception:
            log.exception("chore failed", extra={"chore": self.name})
            return False
        self.due = time.monotonic() + self.every.total_seconds()
        if number:
            log.info("chore done", extra={"chore": self.name, "number": number})
        return True


def tend(chores: Sequence[Chore], stop: threading.Event, mark: Path | None = None) -> None:
    """Do the chores that are due, then wait for the shortest of their periods, until `stop` is set.

    `mark` is touched after each round in which none has failed, so that others can see it go on.
    """
    pause = min(chore.every for chore in chores).total_seconds()
    while True:
        fine = [chore.done() for chore in chores if chore.due <= time.monotonic()]
        connections.close_all()
        if all(fine) and mark is not None:
            mark.touch()
        if stop.wait(pause):
            return


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
