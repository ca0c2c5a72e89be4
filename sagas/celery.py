"""The one line for a project's Celery module: `sagas_use(app)`.

    app = Celery("shop")
    app.config_from_object("django.conf:settings", namespace="CELERY")
    sagas_use(app)
    app.autodiscover_tasks()

It adds to the configuration what sagas need and changes nothing for other tasks: routes to queues
of their own, the beat entries of the scans, database connections that live as long as a worker
child, monitoring events in batches (`sagas.consumer`), and a transport that outlives Redis
(`sagas.broker`). What only sagas' tasks need (late acknowledgement, no results) is declared on them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from celery import Celery
from celery.schedules import schedule
from kombu import Exchange, Queue

from sagas.broker import outlive_redis

FORWARD, COMPENSATION, MAINTENANCE = "forward", "compensation", "maintenance"
ROUTES = {
    "sagas.step": FORWARD,
    "sagas.compensate": COMPENSATION,
    "sagas.wake": COMPENSATION,
    "sagas.unlocked": COMPENSATION,
    "sagas.scan.*": MAINTENANCE,
}
OF_CELERY = "celery.worker.consumer:Consumer"
CANARY_PERIOD = timedelta(seconds=30)
PARTITIONS_PERIOD = timedelta(hours=1)
# Long, because the worker's wall clock against the sender's decides, and either may be hours wrong.
SCAN_EXPIRES = timedelta(days=1)


def sagas_use(app: Celery) -> None:
    """Configure `app` for sagas when it is finalised; call it once, after config_from_object.

    A worker must consume them all: `celery -A shop worker -Q celery,forward,compensation,maintenance`.
    """

    outlive_redis()

    @app.on_after_configure.connect(weak=False)
    def add(sender: Any, **_: Any) -> None:
        from django.conf import settings as project  # settings are read when Celery reads its own

        from sagas.conf import conf

        settings = sender.conf
        # Each queue with an exchange and key of its own: without them all three would bind to the
        # default queue's exchange, and every message would land in all of them.
        queues = [Queue(name, Exchange(name), routing_key=name) for name in sorted({*ROUTES.values()})]
        default = Queue(
            settings.task_default_queue,
            Exchange(settings.task_default_queue),
            routing_key=settings.task_default_queue,
        )
        known = {queue.name for queue in settings.task_queues or ()}
        settings.task_queues = [
            *(settings.task_queues or [default]),
            *(queue for queue in queues if queue.name not in known and queue.name != default.name),
        ]
        routes = {name: {"queue": queue} for name, queue in ROUTES.items()}
        settings.task_routes = {**routes, **(settings.task_routes or {})}
        periods = {
            "recover": conf().recovery_period,
            "expire": conf().timeout_period,
            "webhooks": conf().webhook_period,
            "canary": CANARY_PERIOD,
        }
        if any(name.startswith("sagas.choreography") for name in project.INSTALLED_APPS):
            periods["partitions"] = PARTITIONS_PERIOD
        settings.beat_schedule = {
            **{name: beat_entry(name, period) for name, period in periods.items()},
            **(settings.beat_schedule or {}),
        }
        # The name is Celery's own (celery/fixups/django.py): it closes Django's connections around
        # every task unless told how often it may keep them.
        settings["CELERY_DB_REUSE_MAX"] = 2**31
        if settings.worker_consumer == OF_CELERY:  # a project's own stays
            settings.worker_consumer = "sagas.consumer:BatchingConsumer"


def beat_entry(name: str, period: timedelta) -> dict[str, Any]:
    """One scan on beat; a tick that nobody took in a day is dropped, a later one does its work."""
    return {
        "task": f"sagas.scan.{name}",
        "schedule": schedule(run_every=period),
        "options": {"expires": SCAN_EXPIRES.total_seconds()},
    }
