"""Waits for a saga to come to rest, for a caller who would rather have the end than the beginning."""

from __future__ import annotations

import time
from threading import BoundedSemaphore

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

from sagas import engine
from sagas.models import Saga
from sagas.state import FINISHED, NEEDS_PERSON, SagaState, Status

FIRST_PAUSE = 0.01
LONGEST_PAUSE = 0.25
GROWTH = 1.5

# Who waits holds a thread of the server. Some must stay free to answer others, health checks among them.
_places = BoundedSemaphore(getattr(settings, "SAGA_API_WAITERS", 12))


def at_rest(state: SagaState) -> bool:
    """Finished, left to a person, or never told to run: nothing to wait for."""
    idle = state.status is Status.PENDING and state.deadline_at is None
    return idle or state.status in FINISHED or state.status in NEEDS_PERSON


def until_at_rest(state: SagaState, seconds: float) -> tuple[SagaState, bool]:
    """The saga as it is at rest, or when the time is over; and whether there was room to wait."""
    if at_rest(state) or seconds <= 0:
        return state, True
    if not _places.acquire(blocking=False):
        return state, False
    try:
        return _poll(state, seconds), True
    except (OperationalError, InterfaceError):  # what was done is stored: no reason to answer with an error
        return state, False
    finally:
        _places.release()


def _poll(state: SagaState, seconds: float) -> SagaState:
    end, pause, seen = time.monotonic() + seconds, FIRST_PAUSE, state.rev
    while (left := end - time.monotonic()) > 0:
        release_connection()
        time.sleep(min(pause, left))
        pause = min(pause * GROWTH, LONGEST_PAUSE)
        rev, status = Saga.objects.values_list("rev", "status").get(id=state.id)
        if status in FINISHED or status in NEEDS_PERSON:
            return engine.load(state.id)
        seen = max(seen, rev)
    return engine.load(state.id) if seen != state.rev else state


def release_connection() -> None:
    """Give a pooled connection back, for others to use during a pause; one that is kept is kept."""
    pooled = bool(connection.settings_dict["OPTIONS"].get("pool"))
    if pooled and not connection.in_atomic_block:
        connection.close()
