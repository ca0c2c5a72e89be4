"""The processes of a stack: how each is started and when it counts as healthy."""

import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import urllib3

from stack.config import ROOT, Config

QUEUES_OF_WORK = "forward,compensation"
QUEUE_OF_UPKEEP = "maintenance"
ROOT_WARNING = "ignore:You're running the worker with superuser privileges"
PROJECT = {"DJANGO_SETTINGS_MODULE": "sagaproject.settings"}
http = urllib3.PoolManager(timeout=2.0, retries=False)


@dataclass(frozen=True)
class Process:
    """One process: `healthy` asks it and never raises; those of the lowest `leaves` are stopped first."""

    name: str
    command: tuple[str, ...]
    healthy: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=lambda: PROJECT)
    leaves: int = 0


def all_processes(config: Config, inspect_worker: Callable[[str], bool]) -> list[Process]:
    """Every process of a stack, in the order of starting.

    `inspect_worker` tells whether the worker of that node name consumes its queues.
    """
    return [
        participants(config),
        tending(config),
        api(config),
        *workers(config, inspect_worker),
        beat(config),
        events(config, "relay", "PORT_RELAY_METRICS", "relay"),
        events(config, "consumers", "PORT_CONSUMER_METRICS", "consume", "all"),
        flower(config),
    ]


def participants(config: Config) -> Process:
    """The services; they leave last, so that running steps can finish."""
    port = config.ports["PORT_PARTICIPANTS"]
    return Process(
        "participants",
        gunicorn("sagaproject.participant_wsgi:application", port, threads=32),
        answers(f"http://127.0.0.1:{port}/health"),
        {"DJANGO_SETTINGS_MODULE": "sagaproject.participant_settings"},
        leaves=1,
    )


def tending(config: Config) -> Process:
    """What ends overdue reservations; it is healthy once its first round is done."""
    mark = config.run / "tending" / "mark"
    return Process(
        "tending",
        (sys.executable, "manage.py", "participants", "tend", f"--mark={mark}"),
        mark.exists,
        {"DJANGO_SETTINGS_MODULE": "sagaproject.participant_settings"},
        leaves=1,
    )


def api(config: Config) -> Process:
    """API and admin; one process, because its metrics are counted inside it."""
    return Process(
        "api",
        gunicorn("sagaproject.wsgi:application", config.ports["PORT_API"], threads=64),
        answers(f"{config.api_url}/health/ready"),
    )


def workers(config: Config, inspect_worker: Callable[[str], bool]) -> list[Process]:
    """One worker for the steps, and one for the scans, which must not wait behind a backlog of steps."""
    return [
        worker(config, "worker", QUEUES_OF_WORK, 2, "PORT_WORKER_METRICS", inspect_worker),
        worker(config, "maintenance", QUEUE_OF_UPKEEP, 1, "PORT_MAINTENANCE_METRICS", inspect_worker),
    ]


def worker(
    config: Config, name: str, queues: str, children: int, port: str, inspect_worker: Callable[[str], bool]
) -> Process:
    """A Celery worker with `children` processes on `queues` that serves its metrics on `port`."""
    node = f"{name}@{socket.gethostname()}"
    return Process(
        name,
        celery("worker", "--hostname", node, "--pool=prefork", f"--concurrency={children}", "-Q", queues),
        lambda: inspect_worker(node),
        {
            **PROJECT,
            "PORT_WORKER_METRICS": str(config.ports[port]),
            "PROMETHEUS_MULTIPROC_DIR": str(config.run / f"metrics-{name}"),
        },
    )


def beat(config: Config) -> Process:
    """The clock of the scans. It is healthy once it has opened its schedule."""
    schedule = config.run / "beat" / "schedule"
    return Process(
        "beat",
        celery("beat", f"--schedule={schedule}", "--pidfile="),
        lambda: any(schedule.parent.iterdir()),
    )


def events(config: Config, name: str, port: str, *arguments: str) -> Process:
    """A process of the choreography, which serves its metrics on `port`; consumers may run many times."""
    number = config.ports[port]
    manage = (sys.executable, str(ROOT / "manage.py"), "events", *arguments)
    return Process(
        name,
        (*manage, "--metrics-port", str(number)),
        answers(f"http://127.0.0.1:{number}/metrics"),
    )


def flower(config: Config) -> Process:
    """A view of workers and queues; the login goes by environment, where `ps` does not show it."""
    port = config.ports["PORT_FLOWER"]
    return Process(
        "flower",
        celery("flower", "--address=127.0.0.1", f"--port={port}"),
        answers(f"http://127.0.0.1:{port}/healthcheck"),
        {**PROJECT, "FLOWER_BASIC_AUTH": config.environment.get("FLOWER_BASIC_AUTH") or "admin:admin"},
    )


def gunicorn(application: str, port: int, threads: int) -> tuple[str, ...]:
    """The command of a WSGI server on the loopback interface."""
    return (
        *(sys.executable, "-m", "gunicorn", application),
        *("--bind", f"127.0.0.1:{port}", "--worker-class", "gthread", "--workers", "1"),
        *("--threads", str(threads), "--keep-alive", "75", "--no-control-socket"),
    )


def celery(verb: str, *arguments: str) -> tuple[str, ...]:
    """A command of the project's Celery application, which does not warn of root at length."""
    return (sys.executable, "-W", ROOT_WARNING, "-m", "celery", "-A", "sagaproject", verb, *arguments)


def answers(url: str) -> Callable[[], bool]:
    """A check that GET `url` answers 200."""

    def healthy() -> bool:
        try:
            return http.request("GET", url).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    return healthy


def clear_folder(folder: Path) -> None:
    """Makes `folder` exist and hold no files."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
