"""The database's clock, as this process knows it (rule 3)."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from sagas import sql


class Clock:
    """The database's clock as last heard, carried on by the monotonic one."""

    def __init__(self) -> None:
        self._heard: tuple[datetime, float] | None = None  # one value: threads share the clock

    def hear(self, now: datetime) -> datetime:
        """Take over a server timestamp that has just arrived."""
        self._heard = now, time.monotonic()
        return now

    def now(self) -> datetime:
        """The database's time, never ahead of it; the first call of a process asks the server."""
        heard = self._heard
        if heard is None:
            return self.hear(sql.query("SELECT clock_timestamp()", ())[0][0])
        return heard[0] + timedelta(seconds=time.monotonic() - heard[1])


clock = Clock()
