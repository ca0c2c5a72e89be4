"""Prometheus metrics. Counters and durations where things happen, gauges from the database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Count
from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from sagas.models import ACTIVE_VALUES, Saga
from sagas.state import Decision, SagaState, Status

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
MOVING = [*ACTIVE_VALUES, Status.WAITING.value]

STARTED = Counter("saga_started", "Sagas stored", ["type"])
COMPLETED = Counter("saga_completed", "Sagas that ended completed", ["type"])
FAILED = Counter("saga_failed", "Sagas at the moment they turn or fail", ["type", "reason", "step"])
FAILURES = Counter("saga_failures", "The same by type alone", ["type"])
COMPENSATED = Counter("saga_compensated", "Sagas that ended compensated", ["type"])
COMPENSATIONS = Counter("saga_compensations", "Compensation runs begun", ["type"])
PARKED = Counter("saga_parked", "Sagas left to a person", ["type", "reason"])
LATE = Counter("saga_late", "Deadlines missed by sagas past their pivot, which only go forward", ["type"])
UNMENDED = Counter("saga_unmended", "Looks of a scan at a saga that raised", ["scan"])
STEPS = Counter("saga_steps", "Steps by what became of an attempt", ["type", "step", "status"])
DURATION = Histogram("saga_duration_seconds", "From creation to the end", ["type"], buckets=BUCKETS)
STEP_DURATION = Histogram(
    "saga_step_duration_seconds",
    "From a step's first claim to its completion",
    ["type", "step"],
    buckets=BUCKETS,
)
CALL_DURATION = Histogram(
    "external_service_call_duration_seconds", "One call to a participant", ["service"], buckets=BUCKETS
)
# Codes of refusals are the participants' own words. Each is a time series for good, so those told apart
# are bounded, against one that makes up a new code for every answer.
MOST_REASONS = 100
LONGEST_REASON = 64
OTHER = "other"
OWN_REASONS = frozenset(
    {
        *("retries_exhausted", "outcome_unknown", "circuit_open", "timeout", "wait_timeout"),
        *("compensation_requested", "retry_from", "rejected"),
    }
)
_reasons = set(OWN_REASONS)
STEP_KINDS = {
    "step_completed": "completed",
    "step_refused": "refused",
    "step_transient": "transient",
    "step_unknown": "unknown",
    "step_skipped": "skipped",
    "step_compensated": "compensated",
    "compensation_retry": "compensation_retry",
    "lease_expired": "worker_lost",
}
HEARTBEATS = """
SELECT clock.now, beat.name, beat.at FROM (SELECT clock_timestamp() AS now) clock
LEFT JOIN sagas_heartbeat beat ON true"""


def started(saga_type: str) -> None:
    """A saga was stored."""
    STARTED.labels(saga_type).inc()


def called(participant: str, seconds: float) -> None:
    """A worker has called a participant."""
    CALL_DURATION.labels(participant).observe(seconds)


def decided(before: SagaState, decision: Decision) -> None:
    """A decision has taken hold."""
    after = decision.state
    for entry in decision.audit:
        kind = STEP_KINDS.get(entry.kind)
        if kind is not None:
            STEPS.labels(after.type, entry.step, kind).inc()
        if entry.kind == "saga_turned":
            FAILED.labels(after.type, reason(entry.detail["code"]), entry.detail["step"]).inc()
            FAILURES.labels(after.type).inc()
        elif entry.kind in ("saga_parked", "compensation_failed"):
            PARKED.labels(after.type, reason(entry.detail["code"])).inc()
        elif entry.kind == "deadline_extended" and entry.detail["past_pivot"]:
            LATE.labels(after.type).inc()
    for position in decision.changed:
        step = after.steps[position]
        if step.started_at and step.finished_at and before.steps[position].finished_at is None:
            seconds = (step.finished_at - step.started_at).total_seconds()
            STEP_DURATION.labels(after.type, step.name).observe(seconds)
    if after.status is not before.status:
        _ended(after)


def reason(code: str) -> str:
    """A refusal's code as a label: itself, or `other` if it is long or one too many of this process."""
    if code not in _reasons:
        if len(code) > LONGEST_REASON or len(_reasons) >= MOST_REASONS:
            return OTHER
        _reasons.add(code)
    return code


def _ended(after: SagaState) -> None:
    if after.status is Status.COMPENSATED or after.status is Status.COMPENSATING:
        (COMPENSATED if after.status is Status.COMPENSATED else COMPENSATIONS).labels(after.type).inc()
    if after.status is Status.COMPLETED:
        COMPLETED.labels(after.type).inc()
    if after.finished_at and after.created_at:
        DURATION.labels(after.type).observe((after.finished_at - after.created_at).total_seconds())


class DatabaseCollector(Collector):
    """Gauges that only the database knows, read at every scrape.

    What is active is counted each time, through its partial index. The finished are counted at most
    once a minute: that reads the whole table, and nobody watches them by the second.
    """

    FINISHED_KNOWN_FOR = 60.0

    def __init__(self) -> None:
        self._finished: list[tuple[str, str, int]] = []
        self._counted_at = float("-inf")

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges, from a handful of bounded queries."""
        active = self._counts(Saga.objects.filter(status__in=MOVING))
        if time.monotonic() - self._counted_at > self.FINISHED_KNOWN_FOR:
            self._finished = self._counts(Saga.objects.exclude(status__in=MOVING))
            self._counted_at = time.monotonic()
        total = GaugeMetricFamily("saga_total", "Sagas by type and status", labels=["type", "status"])
        for saga_type, status, count in (*active, *self._finished):
            total.add_metric([saga_type, status], count)
        yield total
        moving = sum(count for _, _, count in active)
        yield GaugeMetricFamily("saga_active_count", "Sagas that are not finished nor parked", value=moving)
        now, heartbeats = self._heartbeats()
        stuck = Saga.objects.stuck(now).count()
        yield GaugeMetricFamily(
            "saga_stuck_count", "Active sagas without a transition for 5 minutes", value=stuck
        )
        age = GaugeMetricFamily("saga_heartbeat_age_seconds", "Age of each periodic task", labels=["task"])
        for name, at in heartbeats:
            age.add_metric([name], (now - at).total_seconds())
        yield age

    def _heartbeats(self) -> tuple[datetime, list[tuple[str, datetime]]]:
        """The database's time, and when each periodic task last did its work by the same clock."""
        with connection.cursor() as cursor:
            cursor.execute(HEARTBEATS)
            rows = cursor.fetchall()
        return rows[0][0], [(name, at) for _, name, at in rows if name is not None]

    def _counts(self, sagas: Any) -> list[tuple[str, str, int]]:
        return list(sagas.order_by().values_list("type", "status").annotate(count=Count("pk")))
