"""Rings the workers for a request, in bounded time: a broker that hangs must not hang the caller (rule 1).

Dispatching bounds what it does itself, but a broker that accepts connections and then says nothing
holds a socket for as long as its timeout. So the ringing is done in a few threads of its own. What
is not sent when the patience ends may still be sent, or is rung for by the recovery scan.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from functools import partial
from threading import BoundedSemaphore

import structlog
from django.db import connection, transaction

from sagas import dispatch, engine
from sagas.state import FINISHED, SagaState

log = structlog.get_logger(__name__)

PATIENCE = 1.0
RINGERS = 4

_ringers = ThreadPoolExecutor(RINGERS, thread_name_prefix="saga-bell")
_free = BoundedSemaphore(RINGERS)


def ring(state: SagaState, due: Sequence[int]) -> None:
    """Ring for `due` once the surrounding transaction, if any, has committed; at most `PATIENCE` seconds."""
    if not due and state.status not in FINISHED:  # an end is told to a parent, and to who waits for a lock
        return
    if connection.in_atomic_block:
        transaction.on_commit(partial(_ring, state, due), robust=True)
    else:
        _ring(state, due)


def _ring(state: SagaState, due: Sequence[int]) -> None:
    end = time.monotonic() + PATIENCE
    if not _free.acquire(timeout=PATIENCE):
        log.warning("broker hangs, the recovery scan will ring", saga=str(state.id))
        return
    sent = _ringers.submit(dispatch.ring, state, due, engine.clock.now())
    sent.add_done_callback(_done)
    try:
        sent.result(timeout=max(end - time.monotonic(), 0))
    except NotYet:
        log.warning("broker is slow, the recovery scan may ring", saga=str(state.id))
    except Exception:
        log.exception("could not ring, the recovery scan will", saga=str(state.id))


def _done(_: Future[None]) -> None:
    _free.release()
