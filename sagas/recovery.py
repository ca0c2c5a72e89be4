"""The scans: bounded, safe to run twice at once, at worker start and by hand (rules 19 to 21)."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import structlog

from sagas import dispatch, engine

log = structlog.get_logger(__name__)

BATCH = 50
SLICE = timedelta(seconds=45)


def recover() -> int:
    """Let every interrupted saga go on that this process has code for; returns how many it looked at."""
    return _scan("recover", engine.take_interrupted, engine.resume)


def expire() -> int:
    """Extend or turn every overdue saga; returns how many it looked at."""
    return _scan("expire", engine.take_overdue, engine.expire)


def _scan(
    name: str, take: Callable[[int], list[UUID]], mend: Callable[[UUID], engine.Progress]
) -> int:
    """Batch after batch until nothing is left or the time slice ends; the next tick goes on."""
    seen, end = 0, time.monotonic() + SLICE.total_seconds()
    while time.monotonic() < end:
        batch = take(BATCH)
        for saga_id in batch:
            _mend(name, saga_id, mend)
        seen += len(batch)
        if len(batch) < BATCH:
            break
    engine.beat(name, {"seen": seen})
    return seen


def _mend(name: str, saga_id: UUID, mend: Callable[[UUID], engine.Progress]) -> None:
    """One saga's trouble must not keep the scan from the others."""
    try:
        progress = mend(saga_id)
    except Exception:
        log.exception("scan could not mend a saga", scan=name, saga=str(saga_id))
        return
    if progress.state is not None:
        dispatch.ring(progress.state, progress.due, engine.clock.now())
