"""One business, orchestrated and choreographed, under the same load: who does it faster, and at what cost.

All times are the database's: from storing the start to storing the end, without the caller's own call.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import quantiles
from typing import Any, Protocol
from uuid import UUID

import orjson
import urllib3
from django.db import connection

from sagas import directory, dispatch, engine
from sagas.choreography import store
from sagas.choreography.bus import bus
from sagas.choreography.topics import Topic
from sagas.conf import conf

STARTERS = 4
LOOK_EVERY = 0.05
REFUSED_CLIENT = 999_999
# Those that have ended: which, how, and when they began and ended.
SAGAS = """
SELECT id, status = 'completed', extract(epoch FROM created_at)::float, extract(epoch FROM finished_at)::float
  FROM sagas_saga WHERE id = ANY(%s::uuid[]) AND finished_at IS NOT NULL"""
STREAMS = """
SELECT id, succeeded, extract(epoch FROM created_at)::float, extract(epoch FROM ended_at)::float
  FROM choreography_stream WHERE id = ANY(%s::uuid[]) AND ended_at IS NOT NULL"""
# From the moment a checkout is known to fail to the moment its stock is free again.
SAGA_RELEASES = """
SELECT extract(epoch FROM s.undo_finished_at - e.at)::float
  FROM sagas_sagastep s JOIN sagas_sagaevent e ON e.saga_id = s.saga_id AND e.kind = 'saga_turned'
 WHERE s.saga_id = ANY(%s::uuid[]) AND s.name = 'reserve-stock' AND s.undo_finished_at IS NOT NULL"""
STREAM_RELEASES = """
SELECT extract(epoch FROM released.at - failed.at)::float
  FROM choreography_event failed JOIN choreography_event released USING (stream)
 WHERE stream = ANY(%s::uuid[]) AND failed.type = 'OrderCreationFailed' AND released.type = 'StockReleased'"""


class Pattern(Protocol):
    """One way of doing the business."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    def start(self, data: dict[str, Any]) -> UUID:
        """Begin one; returns its id."""

    def measured(self, ids: Sequence[UUID]) -> Measured:
        """What became of these."""

    def ended(self, ids: Sequence[UUID]) -> set[UUID]:
        """Which of these have ended."""


@dataclass(frozen=True, slots=True)
class Load:
    """How much to start, by whom, and how fast: `rate` a second over all users, 0 for as fast as they can.

    Every so many percent are refused by the orders at the very last, and must give back their stock.
    """

    users: int
    checkouts: int
    rate: float
    failing: int
    store: int
    product: int
    client: int

    def data(self, number: int) -> dict[str, Any]:
        """The input of one of them."""
        refused = number % 100 * self.failing % 100 < self.failing
        client = REFUSED_CLIENT if self.failing and refused else self.client
        item = {"product_id": self.product, "quantity": 1}
        return {"client_id": client, "store_id": self.store, "items": [item]}


@dataclass(frozen=True, slots=True)
class Measured:
    """What became of a load."""

    started: int
    ended: int
    succeeded: int
    seconds: list[float]
    span: float
    events: int
    compensations: int
    releases: list[float]

    @property
    def per_minute(self) -> float:
        """Ends a minute, from the first start to the last end."""
        return 60 * self.ended / self.span if self.span else 0.0


@dataclass(frozen=True, slots=True)
class Orchestrated:
    """By a saga of this type."""

    saga_type: str
    name: str = "orchestrated"

    def start(self, data: dict[str, Any]) -> UUID:
        """As the API does."""
        state = engine.start(self.saga_type, data, actor="compare").state
        dispatch.ring(state, engine.due_positions(state), engine.clock.now())
        return state.id

    def ended(self, ids: Sequence[UUID]) -> set[UUID]:
        """Which have ended."""
        return {row[0] for row in rows(SAGAS, ids)}

    def measured(self, ids: Sequence[UUID]) -> Measured:
        """From sagas, their steps and their audit."""
        audited = "SELECT count(*) FROM sagas_sagaevent WHERE saga_id = ANY(%s::uuid[])"
        undone = "SELECT count(*) FROM sagas_saga WHERE id = ANY(%s::uuid[]) AND status = 'compensated'"
        return measured(ids, SAGAS, audited, undone, SAGA_RELEASES)


@dataclass(frozen=True, slots=True)
class Choreographed:
    """By the groups of this topic."""

    topic: Topic
    name: str = "choreographed"

    def start(self, data: dict[str, Any]) -> UUID:
        """As the API does."""
        begun = store.begin(self.topic, data, correlation_id="compare")
        bus().ring()
        return begun.stream

    def ended(self, ids: Sequence[UUID]) -> set[UUID]:
        """Which have ended."""
        return {row[0] for row in rows(STREAMS, ids)}

    def measured(self, ids: Sequence[UUID]) -> Measured:
        """From streams and their events."""
        told = "SELECT count(*) FROM choreography_event WHERE stream = ANY(%s::uuid[])"
        undone = f"{told} AND type = 'StockReleased'"
        return measured(ids, STREAMS, told, undone, STREAM_RELEASES)


def measured(ids: Sequence[UUID], ends: str, events: str, undone: str, releases: str) -> Measured:
    """What these statements tell of these ids."""
    found = rows(ends, ids)
    began, ended = [row[2] for row in found], [row[3] for row in found]
    return Measured(
        started=len(ids),
        ended=len(found),
        succeeded=sum(bool(row[1]) for row in found),
        seconds=sorted(end - begin for begin, end in zip(began, ended, strict=True)),
        span=max(ended) - min(began) if found else 0.0,
        events=rows(events, ids)[0][0],
        compensations=rows(undone, ids)[0][0],
        releases=sorted(row[0] for row in rows(releases, ids)),
    )


def rows(statement: str, ids: Sequence[UUID]) -> Sequence[Sequence[Any]]:
    """The rows of a statement about these ids."""
    with connection.cursor() as cursor:
        cursor.execute(statement, [list(ids)])
        found: Sequence[Sequence[Any]] = cursor.fetchall()
        return found


class Run:
    """One load by one pattern: users start, wait for the end, and start the next."""

    def __init__(self, pattern: Pattern, load: Load, patience: float) -> None:
        self.pattern = pattern
        self.load = load
        self.patience = patience
        self.ids: list[UUID] = []
        self._open: dict[UUID, threading.Event] = {}
        self._numbers = iter(range(load.checkouts))
        self._lock = threading.Lock()
        self._done = threading.Event()

    def go(self) -> Measured:
        """Run it to its end; checkouts that do not end in time count as not ended."""
        began = time.monotonic()
        watcher = threading.Thread(target=self._watch, daemon=True)
        watcher.start()
        # Starts go through a few connections, however many users there are.
        with ThreadPoolExecutor(STARTERS) as starters:
            users = [
                threading.Thread(target=self._user, args=(starters, began), daemon=True)
                for _ in range(self.load.users)
            ]
            for user in users:
                user.start()
            for user in users:
                user.join()
            all_of_them = threading.Barrier(STARTERS)
            for _ in range(STARTERS):
                starters.submit(self._close, all_of_them)
        self._done.set()
        watcher.join()
        return self.pattern.measured(self.ids)

    def _user(self, starters: ThreadPoolExecutor, began: float) -> None:
        while (number := self._next()) is not None:
            if self.load.rate:
                due = began + (number + random.random()) / self.load.rate  # noqa: S311  # spreads a load
                self._done.wait(max(due - time.monotonic(), 0))
            ended = threading.Event()
            starters.submit(self._start, self.load.data(number), ended).result()
            ended.wait(self.patience)

    def _next(self) -> int | None:
        with self._lock:
            return next(self._numbers, None)

    def _start(self, data: dict[str, Any], ended: threading.Event) -> None:
        started = self.pattern.start(data)
        with self._lock:
            self.ids.append(started)
            self._open[started] = ended

    def _watch(self) -> None:
        while not self._done.wait(LOOK_EVERY):
            with self._lock:
                waiting = list(self._open)
            for ended in self.pattern.ended(waiting) if waiting else ():
                with self._lock:
                    self._open.pop(ended).set()
        connection.close()

    def _close(self, all_of_them: threading.Barrier) -> None:
        all_of_them.wait()  # so that each starter takes one of these, and closes its own connection
        connection.close()


# --- Refusals -----------------------------------------------------------------------------------------


def refusing(participant: str, operation: str) -> Callable[[], None] | None:
    """Have a participant refuse the one client; returns what ends that, None if it cannot be had."""
    target = conf().participants[participant]
    url = f"{directory.urls(target)[0]}/faults"
    headers = {"Authorization": f"Bearer {directory.credential(target)}"}
    http = urllib3.PoolManager(retries=False, timeout=5)
    fault = {
        "operation": operation,
        "kind": "refuse",
        "times": None,
        "match": {"client_id": REFUSED_CLIENT},
        "reason": "this client is refused, for the comparison",
    }
    answer = http.request("POST", url, body=orjson.dumps(fault), headers=headers)
    if answer.status != 201:
        return None

    def end() -> None:
        http.request("DELETE", url, headers=headers)

    return end


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that so many percent do not exceed; 0 for none."""
    if len(values) < 2:
        return values[0] if values else 0.0
    return quantiles(values, n=100, method="inclusive")[percent - 1]
