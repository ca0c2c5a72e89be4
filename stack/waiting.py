"""Waiting for a condition with a bound."""

import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], bool],
    seconds: float,
    *,
    give_up: Callable[[], bool] = lambda: False,
    pause: float = 0.05,
) -> bool:
    """Asks `condition` every `pause` seconds until it holds.

    False after `seconds`, or as soon as `give_up` holds.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if give_up() or time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True
