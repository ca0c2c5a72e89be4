"""`/health`, `/health/ready` and `/metrics`: plain Django views, open to whoever reaches the process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import structlog
from django.db import Error
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from redis import RedisError

from sagas import breaker
from sagas.api.problems import plain_response
from sagas.api.readiness import readiness
from sagas.metrics import DatabaseCollector

log = structlog.get_logger(__name__)

LIVE_PATH = "/health"
ALIVE = b'{"status":"ok"}'


def alive() -> HttpResponse:
    """This process answers; nothing else is asked."""
    headers = {"Cache-Control": "no-store", "Content-Length": str(len(ALIVE))}
    return HttpResponse(ALIVE, content_type="application/json", headers=headers)


class LivenessMiddleware:
    """Answers `/health` before anything else: probes come often, and with any host name."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info == LIVE_PATH and request.method in ("GET", "HEAD"):
            return alive()
        return self.get_response(request)


@require_safe
def health(request: HttpRequest) -> HttpResponse:
    """The same where the middleware is not installed."""
    return alive()


@require_safe
@never_cache
def ready(request: HttpRequest) -> HttpResponse:
    """200 if the database answers, else a problem; `checks` tells of everything."""
    checks = readiness.checks()
    if checks["database"]["status"] != "ok":
        detail = "The database does not answer."
        return plain_response(request, HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", detail, checks=checks)
    parts = [checks["broker"], checks["workers"], *checks["participants"].values()]
    status = "ok" if all(part["status"] == "ok" for part in parts) else "degraded"
    return JsonResponse({"status": status, "checks": checks})


database = DatabaseCollector()


class Gauges(Collector):
    """The gauges from the database, and whether it could be asked."""

    def collect(self) -> Iterator[Metric]:
        """No gauges, rather than no metrics at all, while the database is away."""
        up = 1
        try:
            yield from list(database.collect())
        except Error as error:
            log.warning("no gauges from the database", error=str(error))
            up = 0
        yield GaugeMetricFamily("saga_database_up", "Whether the gauges could be read", value=up)
        yield circuits()


def circuits() -> GaugeMetricFamily:
    """1 for each participant whose circuit is open or being probed, 0 if closed; none without Redis."""
    family = GaugeMetricFamily("saga_circuit_open", "Circuits that hold calls back", labels=["service"])
    try:
        for participant, circuit in breaker.inspect().items():
            if circuit["state"] != "unknown":
                family.add_metric([participant], circuit["state"] != "closed")
    except RedisError as error:
        log.warning("no gauges of the circuits", error=str(error))
    return family


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """What this process counted (all processes, where they share a folder), and the gauges."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(Everything()), content_type=content_type)


class Everything(CollectorRegistry):
    """One registry over the process's own, or that of all processes, and the database."""

    def __init__(self) -> None:
        super().__init__()
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            share: Any = MultiProcessCollector
            share(self)
        else:
            self.register(Processes())
        self.register(Gauges())


class Processes(Collector):
    """What this process counted."""

    def collect(self) -> Iterator[Metric]:
        """As the default registry has it."""
        yield from REGISTRY.collect()
