"""Where the choreography is measured: servers and processes of its own."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from stack import processes
from stack.config import PORTS, Config
from stack.guard import guarded
from stack.health import worker_inspector
from stack.ports import free_port
from stack.servers import Postgres, Redis
from tests.acceptance.running import Running, program, stop_all

Found = dict[str, Any]


class Bench:
    """Servers, processes and one connection."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self.folder = folder
        self.postgres = Postgres(folder / "postgres", free_port(), throwaway=not durable)
        self.redis = Redis(folder / "redis", free_port(), throwaway=not durable)
        self.config = Config.parse(self._environment())
        inspect = worker_inspector(self.redis.url)
        make = processes.events
        self.participants = self._running(processes.participants(self.config))
        self.api = self._running(processes.api(self.config))
        self.worker = self._running(processes.workers(self.config, inspect)[0])
        self.relay = self._running(make(self.config, "relay", "PORT_RELAY_METRICS", "relay"))
        self.consumers = self._running(
            make(self.config, "consumers", "PORT_CONSUMER_METRICS", "consume", "all")
        )

    @property
    def everything(self) -> Sequence[Running]:
        """All processes but the API, which only its own part starts."""
        return (self.participants, self.worker, self.relay, self.consumers)

    def run(self, *arguments: str) -> str:
        """A Python program of the project; what it prints."""
        return program(self.config.environment, *arguments)

    def connect(self) -> psycopg.Connection[Any]:
        """A connection to the database of events."""
        return psycopg.connect(self.config.environment["DATABASE_URL"], autocommit=True)

    def stop(self) -> None:
        """Stop it all."""
        stop_all((*self.everything, self.api))
        self.redis.stop()
        self.postgres.stop()

    def _running(self, process: processes.Process) -> Running:
        return Running(process, self.config.environment, self.folder)

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            **{name: str(free_port()) for name in PORTS},
            "DATA_DIR": str(self.folder / "data"),
            "DATABASE_URL": f"{self.postgres.url}/bench",
            "REDIS_URL": self.redis.url,
            "PARTICIPANT_CREDENTIAL": "of-a-benchmark",
            "PARTICIPANTS_FAULTS": "1",
            "DJANGO_DEBUG": "0",
            "DJANGO_ALLOWED_HOSTS": "127.0.0.1",
            "DJANGO_SECRET_KEY": "of-a-benchmark",
            "EVENT_KEYS": "of-a-benchmark-and-of-nothing-else",
            "SEED_DEMO_USERS": "1",
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "WARNING",
        }


@contextmanager
def bench(*, durable: bool) -> Iterator[Bench]:
    """Servers with databases; the processes are started by what needs them."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="choreography-bench-")))
        folder.chmod(0o711)
        made = Bench(folder, durable=durable)
        stack.callback(made.stop)
        made.postgres.start()
        made.redis.start()
        pids = [pid for pid in (made.postgres.pid, made.redis.pid) if pid is not None]
        stack.enter_context(guarded(folder, pids))
        made.run("-m", "stack.prepare")
        yield made


def one(database: psycopg.Connection[Any], query: str, given: Mapping[str, Any] | None = None) -> Any:
    """The one value of a query."""
    row = database.execute(query.encode(), given).fetchone()
    return None if row is None else row[0]


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)
