"""Whether this process can serve: the database decides; what else is needed is reported beside it.

Every probe has a short time limit and runs in a thread of its own, so that one which hangs hangs nobody.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from threading import Lock
from typing import Any

import structlog
import urllib3
from celery import current_app
from django.db import connection

from sagas import directory
from sagas.conf import conf

log = structlog.get_logger(__name__)

PROBE_TIMEOUT = 2
HTTP_TIMEOUT = 1.5
KEPT_FOR = 1.0
CANARY_LATE_AFTER = 100.0

_probes = ThreadPoolExecutor(16, thread_name_prefix="saga-readiness")
_http = urllib3.PoolManager(num_pools=32, maxsize=16, retries=False, timeout=HTTP_TIMEOUT)

Finding = dict[str, Any]


def database() -> Finding:
    """One round trip; brings the canary's age along."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT extract(epoch FROM clock_timestamp() - max(at))::float"
                " FROM sagas_heartbeat WHERE name = 'canary'"
            )
            return {"status": "ok", "canary_age": cursor.fetchone()[0]}
    finally:
        connection.close()


def broker() -> Finding:
    """Opens a connection and closes it."""
    with current_app.connection_for_write(connect_timeout=PROBE_TIMEOUT) as link:
        link.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=PROBE_TIMEOUT)
    return {"status": "ok"}


def participant(urls: list[str]) -> Finding:
    """Asks a participant for its own health: well if all its addresses are, of use while one is."""
    found = {_health(url) for url in urls}
    if len(found) == 1:
        return {"status": found.pop()}
    return {"status": "degraded" if "ok" in found else "failing"}


def _health(url: str) -> str:
    try:
        answer = _http.request("GET", f"{url}/health", redirect=False)
    except urllib3.exceptions.HTTPError:
        return "unreachable"
    return "ok" if answer.status == 200 else "failing"


def workers(canary_age: float | None) -> Finding:
    """Alive if the canary task, which beat sends to them, has written lately."""
    if canary_age is None:
        return {"status": "unknown", "canary_age_seconds": None}
    status = "ok" if canary_age < CANARY_LATE_AFTER else "late"
    return {"status": status, "canary_age_seconds": round(canary_age, 1)}


class Readiness:
    """The findings of all probes, kept for a second: nobody can make this process hammer the others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._found: dict[str, Any] | None = None
        self._at = 0.0

    def checks(self) -> dict[str, Any]:
        """Findings by name; `participants` holds one for each."""
        with self._lock:
            if self._found is None or self._clock() - self._at > KEPT_FOR:
                self._found, self._at = self._probe(), self._clock()
            return self._found

    def _probe(self) -> dict[str, Any]:
        end = self._clock() + PROBE_TIMEOUT
        asked = {
            name: _probes.submit(participant, directory.urls(p)) for name, p in conf().participants.items()
        }
        stored, rung = _probes.submit(database), _probes.submit(broker)
        known = self._outcome(stored, end)
        age = known.pop("canary_age", None)
        return {
            "database": known,
            "broker": self._outcome(rung, end),
            "workers": workers(age),
            "participants": {name: self._outcome(probe, end) for name, probe in asked.items()},
        }

    def _outcome(self, probe: Future[Finding], end: float) -> Finding:
        try:
            return dict(probe.result(timeout=max(end - self._clock(), 0)))
        except NotYet:
            probe.cancel()
            return {"status": "no answer in time"}
        except Exception as error:
            log.info("readiness probe failed", error=str(error))
            return {"status": "unreachable"}


readiness = Readiness()
