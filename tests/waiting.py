"""Waiting for something that happens elsewhere, for so long and no longer."""

import time
from collections.abc import Callable

BOUND = 20.0
PAUSE = 0.01


def wait_for(condition: Callable[[], object], what: str, bound: float = BOUND) -> None:
    """Ask until the condition holds; fails after `bound` seconds, naming what did not happen."""
    end = time.monotonic() + bound
    while not condition():
        assert time.monotonic() < end, f"waited {bound:g} s in vain for {what}"
        time.sleep(PAUSE)
