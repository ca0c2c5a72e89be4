"""A wall clock that is wrong, by as many hours as WALL_CLOCK_HOURS says; the monotonic one is not touched."""

import os
from datetime import timedelta

import time_machine


def install() -> None:
    """Have this process, and those that it forks, believe in another time of day."""
    hours = float(os.environ.get("WALL_CLOCK_HOURS", "0"))
    if hours:
        time_machine.travel(timedelta(hours=hours), tick=True).start()
