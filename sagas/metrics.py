"""Prometheus metrics. Counters and durations where things happen, gauges from the database."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import connection
from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from sagas.state import Decision, SagaState, Status

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
STUCK_AFTER = "5 minutes"

STARTED = Counter("saga_started", "Sagas stored", ["type"])
COMPLETED = Counter("saga_completed", "Sagas that ended completed", ["type"])
FAILED = Counter("saga_failed", "Sagas at the moment they turn or fail", ["type", "reason", "step"])
FAILURES = Counter("saga_failures", "The same by type alone", ["type"])
COMPENSATED = Counter("saga_compensated", "Sagas that ended compensated", ["type"])
COMPENSATIONS = Counter("saga_compensations", "Compensation runs begun", ["type"])
PARKED = Counter("saga_parked", "Sagas left to a person", ["type", "reason"])
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
            FAILED.labels(after.type, entry.detail["code"], entry.detail["step"]).inc()
            FAILURES.labels(after.type).inc()
        elif entry.kind in ("saga_parked", "compensation_failed"):
            PARKED.labels(after.type, entry.detail["code"]).inc()
    for position in decision.changed:
        step = after.steps[position]
        if step.started_at and step.finished_at and before.steps[position].finished_at is None:
            seconds = (step.finished_at - step.started_at).total_seconds()
            STEP_DURATION.labels(after.type, step.name).observe(seconds)
    if after.status is not before.status:
        _ended(after)


def _ended(after: SagaState) -> None:
    if after.status is Status.COMPENSATED or after.status is Status.COMPENSATING:
        (COMPENSATED if after.status is Status.COMPENSATED else COMPENSATIONS).labels(after.type).inc()
    if after.status is Status.COMPLETED:
        COMPLETED.labels(after.type).inc()
    if after.finished_at and after.created_at:
        DURATION.labels(after.type).observe((after.finished_at - after.created_at).total_seconds())


class DatabaseCollector(Collector):
    """Gauges that only the database knows, read at every scrape; counts the active, not the finished.

    Finished sagas are counted by the counters; counting millions of rows at every scrape is not for
    a gauge, so `saga_total` covers statuses that a partial index or a bounded set can answer.
    """

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One pass over the active sagas, one over the heartbeats."""
        total = GaugeMetricFamily("saga_total", "Sagas by type and status", labels=["type", "status"])
        active, stuck = 0, 0
        with connection.cursor() as cursor:
            cursor.execute("SELECT type, status, count(*) FROM sagas_saga GROUP BY 1, 2")
            for saga_type, status, count in cursor.fetchall():
                total.add_metric([saga_type, status], count)
                active += count if status in ("pending", "in_progress", "waiting", "compensating") else 0
            cursor.execute(
                "SELECT count(*) FROM sagas_saga s WHERE status IN ('in_progress', 'compensating') AND"
                " paused_at IS NULL AND NOT EXISTS (SELECT FROM sagas_sagaevent e WHERE e.saga_id = s.id"
                " AND e.at > clock_timestamp() - %s::interval)",
                [STUCK_AFTER],
            )
            stuck = cursor.fetchone()[0]
            cursor.execute(
                "SELECT name, extract(epoch FROM clock_timestamp() - at)::float FROM sagas_heartbeat"
            )
            ages = cursor.fetchall()
        yield total
        yield GaugeMetricFamily("saga_active_count", "Sagas that are not finished nor parked", value=active)
        yield GaugeMetricFamily(
            "saga_stuck_count", "Active sagas without a transition for 5 minutes", value=stuck
        )
        age = GaugeMetricFamily("saga_heartbeat_age_seconds", "Age of each periodic job", labels=["job"])
        for name, seconds in ages:
            age.add_metric([name], seconds)
        yield age
