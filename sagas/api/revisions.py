"""Which revision of a saga there is, what clients call it (ETag), and the answers of finished ones.

Every read first asks the database, in one small statement, whether the caller may see the saga and
which revision it has. Who has that one is answered 304. Of a finished saga the whole answer is then
looked for in Django's default cache: its key holds epoch and revision, since a finished saga may
still be compensated or retried, and is another one then. So a lost cache costs time, and a stale
entry is never asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import structlog
from django.core.cache import cache
from rest_framework.request import Request

from sagas.api import access
from sagas.errors import SagaNotFound
from sagas.state import FINISHED

log = structlog.get_logger(__name__)

KEPT_FOR = 600  # seconds; the answer also depends on the code that makes it
LONGEST = 100_000
REST = 5.0


class Revised(Protocol):
    """A saga as far as its revision goes."""

    @property
    def id(self) -> UUID: ...
    @property
    def status(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    @property
    def rev(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Revision:
    """A saga at one moment."""

    id: UUID
    status: str
    epoch: int
    rev: int


def revision(request: Request, saga_id: UUID) -> Revision:
    """The present revision of a saga that the caller may see.

    Raises:
        SagaNotFound: there is none that they may see.
    """
    found = access.visible(request.user).filter(id=saga_id).values_list("status", "epoch", "rev").first()
    if found is None:
        raise SagaNotFound(f"there is no saga {saga_id}")
    return Revision(saga_id, *found)


def etag(saga: Revised) -> str:
    """Changes with every transition of the saga."""
    return f'"{saga.id.hex[-12:]}.{saga.epoch}.{saga.rev}"'


def known(request: Request, tag: str) -> bool:
    """Whether the caller has the answer with this ETag already."""
    return tag in request.headers.get("If-None-Match", "")


# --- Finished sagas -----------------------------------------------------------------------------------


def finished(saga: Revised) -> str | None:
    """The answer of a finished saga, as JSON; None if it has not finished, or is not to be had."""
    found = _tried(lambda: cache.get(_key(saga))) if saga.status in FINISHED else None
    return found if isinstance(found, str) else None


def keep(saga: Revised, answer: str) -> None:
    """Keep the answer of a saga if it has finished."""
    if saga.status in FINISHED and len(answer) <= LONGEST:
        _tried(lambda: cache.set(_key(saga), answer, KEPT_FOR))


def _key(saga: Revised) -> str:
    return f"sagas:answer:{saga.id.hex}.{saga.epoch}.{saga.rev}"


class _Rest:
    """Until when this process leaves the cache alone."""

    until = 0.0


def _tried(ask: Callable[[], object]) -> object:
    """What the cache says; one that fails is left alone for a while, so that it delays nobody twice."""
    if time.monotonic() < _Rest.until:
        return None
    try:
        return ask()
    except Exception as error:  # each cache backend raises its own errors
        _Rest.until = time.monotonic() + REST
        log.warning("answers not cached", error=str(error))
        return None
