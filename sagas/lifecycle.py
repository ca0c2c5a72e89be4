"""What a worker does beside its tasks: it serves its metrics, and has what was left behind looked at.

Celery's signals call this. The children of a prefork worker count into files of a folder of their
own (PROMETHEUS_MULTIPROC_DIR), which the parent empties before it forks and reads when it is scraped.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIServer

import structlog
from celery.signals import worker_init, worker_process_shutdown, worker_ready
from django.db import DatabaseError, connections
from kombu.exceptions import OperationalError
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from sagas import versions
from sagas.celery import SCAN_EXPIRES
from sagas.conf import conf

log = structlog.get_logger(__name__)

FOLDER = "PROMETHEUS_MULTIPROC_DIR"


@worker_init.connect
def empty_metrics_folder(**_: Any) -> None:
    """Forget what an earlier worker counted; the files that this process has open stay."""
    folder = os.environ.get(FOLDER)
    if folder is None:
        return
    for path in Path(folder).glob("*.db"):
        if not path.stem.endswith(f"_{os.getpid()}"):
            path.unlink(missing_ok=True)


@worker_ready.connect
def serve_metrics(**_: Any) -> WSGIServer | None:
    """Answer scrapes on SAGAS["WORKER_METRICS_PORT"]; a worker that cannot works all the same."""
    port = conf().worker_metrics_port
    if not port:
        return None
    if FOLDER not in os.environ:
        log.error("worker metrics are not served: set PROMETHEUS_MULTIPROC_DIR to a folder of its own")
        return None
    try:
        return start_http_server(port, conf().worker_metrics_address, every_process())[0]
    except OSError as error:
        log.error("worker metrics are not served", port=port, error=str(error))
        return None


def every_process() -> CollectorRegistry:
    """What all processes of this worker have counted."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return registry


@worker_ready.connect
def ring_for_scans(sender: Any, **_: Any) -> None:
    """Have interrupted and overdue sagas found now (rule 19), and the canary sing, a sign of life.

    A worker that starts may follow one that was lost; whether it works need not wait for beat either.
    """
    try:
        for name in ("recover", "expire", "canary"):
            sender.app.send_task(f"sagas.scan.{name}", expires=SCAN_EXPIRES.total_seconds())
    except (OperationalError, OSError) as error:
        log.warning("broker unreachable, the next tick of beat will scan", error=str(error))


@worker_ready.connect
def name_what_has_no_code(**_: Any) -> None:
    """Say which sagas in flight this worker has no code for: a release may have dropped it (rule 2)."""
    try:
        missing = versions.without_code()
    except DatabaseError as error:
        log.warning("versions in flight are unknown", error=str(error))
        return
    finally:
        connections.close_all()  # children that are forked later must not inherit it
    if missing:
        log.error("no code here for sagas in flight", versions=missing, mend=versions.MEND)


@worker_process_shutdown.connect
def forget_process(pid: int, **_: Any) -> None:
    """The gauges of a child that has ended end with it."""
    if FOLDER in os.environ:
        mark_process_dead(pid)
