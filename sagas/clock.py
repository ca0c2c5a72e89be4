"""The database's clock, as this process knows it (rule 3)."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from django.db import DatabaseError

from sagas import sql

HEARD_FOR = 300.0


class Clock:
    """The database's clock as last heard, carried on by the monotonic one."""

    def __init__(self) -> None:
        self._heard: tuple[datetime, float] | None = None  # one value: threads share the clock

    def hear(self, now: datetime) -> datetime:
        """Take over a server timestamp that has just arrived."""
        self._heard = now, time.monotonic()
        return now

    def now(self) -> datetime:
        """The database's time, never ahead of it.

        A process that has heard nothing, or nothing for minutes, asks the server: the monotonic clock
        stands still while a machine sleeps. A server that is away is not waited for a second time.
        """
        heard = self._heard
        if heard is None:
            return self.hear(self._ask())
        age = time.monotonic() - heard[1]
        if age > HEARD_FOR:
            try:
                return self.hear(self._ask())
            except DatabaseError:
                self._heard = heard[0] + timedelta(seconds=age), time.monotonic()
        return heard[0] + timedelta(seconds=age)

    def _ask(self) -> datetime:
        now: datetime = sql.query("SELECT clock_timestamp()", ())[0][0]
        return now


clock = Clock()
