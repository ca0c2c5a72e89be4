"""Counts the statements that each process sends to PostgreSQL, in a file that the driver reads.

Every way to send one through psycopg's cursors ends in `Cursor.execute` or `executemany`, Django's
too, and the engine's own in `sagas.sql.send`; the count is therefore exact, and costs a fraction of a
microsecond.
"""

import fcntl
import mmap
import os
import struct
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

from sagas import sql

SLOTS = 64
SLOT = struct.Struct("=qq")  # pid, statements


class Counters:
    """Slots of (pid, statements); each process writes its own only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("a+b") as file:
            file.truncate(SLOTS * SLOT.size)
            self._map = mmap.mmap(file.fileno(), SLOTS * SLOT.size)
        self._pid = self._offset = 0

    def add(self) -> None:
        """One more statement of this process."""
        if self._pid != os.getpid():
            self._claim()
        pid, count = SLOT.unpack_from(self._map, self._offset)
        SLOT.pack_into(self._map, self._offset, pid, count + 1)

    def total(self, *, without: int = 0) -> int:
        """Statements of all processes but the one with the pid `without`."""
        slots = SLOT.iter_unpack(self._map[:])
        return sum(count for pid, count in slots if pid != without)

    def of(self, pid: int) -> int:
        """Statements of the process `pid`."""
        return sum(count for owner, count in SLOT.iter_unpack(self._map[:]) if owner == pid)

    def _claim(self) -> None:
        with self.path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            pids = [pid for pid, _ in SLOT.iter_unpack(self._map[:])]
            self._offset = pids.index(0) * SLOT.size
            self._pid = os.getpid()
            SLOT.pack_into(self._map, self._offset, self._pid, 0)


@cache
def counters() -> Counters:
    """Those of this run."""
    return Counters(Path(os.environ["BENCH_STATEMENT_COUNTERS"]))


def install() -> None:
    """Count from now on, in this process and those it forks."""
    counted_here = counters()
    execute, executemany = psycopg.Cursor.execute, psycopg.Cursor.executemany

    def counted(cursor: Any, *args: Any, **kwargs: Any) -> Any:
        counted_here.add()
        return execute(cursor, *args, **kwargs)

    def counted_many(cursor: Any, *args: Any, **kwargs: Any) -> Any:
        counted_here.add()
        return executemany(cursor, *args, **kwargs)

    send = sql.send

    def counted_send(*args: Any) -> Any:
        counted_here.add()
        return send(*args)

    setattr(sql, "send", counted_send)  # noqa: B010  as below; an assignment would want its types
    for name, method in (("execute", counted), ("executemany", counted_many)):
        setattr(psycopg.Cursor, name, method)
