"""The whole system as processes of its own, and what tests may do to it.

Each process comes from `stack.processes`, as `make up` starts it, with shorter times. Secrets are
drawn anew and differ from everything else that is said, so that they can be looked for in the logs.
"""

import json
import os
import secrets
import signal
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from celery import Celery
from psycopg import sql
from psycopg.rows import dict_row

from stack import processes
from stack.config import PORTS, Config
from stack.guard import guarded
from stack.health import worker_inspector
from stack.ports import free_port
from stack.servers import Postgres, Redis
from stack.waiting import wait_until
from tests.acceptance.client import Client, Document
from tests.acceptance.running import Running, program, stop_all
from tests.invariants import RESTING, assert_invariants

SELLING = ("personnel", "inventory", "transactions")  # whom a sale calls
PARTICIPANTS = (
    *SELLING,
    *("payments", "catalogue", "stores", "orders", "supply_chain", "notifications"),
)
CHILDREN = 4
PATIENCE = 40.0
ROLE = "orchestrator"
TIMES = {
    "SAGA_RING_AFTER_SECONDS": "2",
    "SAGA_LEASE_MARGIN_SECONDS": "1",
    "SAGA_RECOVERY_SECONDS": "1",
    "SAGA_TIMEOUT_SCAN_SECONDS": "1",
}
ALARMS = ("saga_parked", "compensation_failed")


@dataclass(frozen=True)
class Fault:
    """What a participant is to do to one saga: `kind` as `participants.contract.faults` lists them.

    `at` narrows it to the calls of one participant in one step: `("payments", "debit-account")`.
    """

    operation: str
    kind: str
    times: int | None = 1
    seconds: float = 1.0
    code: str = "fault"
    at: tuple[str, str] | None = None


def basket(*, customer: int = 123, product: int = 457, price: str = "5.00", quantity: int = 1) -> Document:
    """The input of a sale in store 1 by employee 1."""
    item = {"product_id": product, "quantity": quantity, "price": price}
    return {
        **{"store_id": 1, "employee_id": 1, "customer_id": customer},
        **{"items": [item], "payment_method": "balance"},
    }


class World:
    """The processes, their databases, and one operator."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres = Postgres(folder / "postgres", free_port(), throwaway=True)
        self.redis = Redis(folder / "redis", free_port(), throwaway=True)
        self.secrets = {
            name: secrets.token_urlsafe(24)
            for name in ("database", "redis", "credential", "django", "events", "operator", "client")
        }
        self.crashes = folder / "crashes"
        self.config = Config.parse(self._environment())
        inspector = worker_inspector(self.environment["REDIS_URL"])
        steps = processes.worker(
            self.config, "worker", processes.QUEUES_OF_WORK, CHILDREN, "PORT_WORKER_METRICS", inspector
        )
        upkeep = processes.workers(self.config, inspector)[1]
        self.participants = self._running(processes.participants(self.config))
        self.api = self._running(processes.api(self.config))
        self.worker = self._running(steps)
        self.maintenance = self._running(upkeep)
        self.beat = self._running(processes.beat(self.config))

    @property
    def environment(self) -> Mapping[str, str]:
        """What every process is told."""
        return self.config.environment

    @property
    def everything(self) -> Sequence[Running]:
        """All processes, in the order of starting."""
        return (self.participants, self.api, self.worker, self.maintenance, self.beat)

    @cached_property
    def databases(self) -> dict[str, str]:
        """The URL of the sagas' database (`default`) and of each participant's."""
        url = self.environment["DATABASE_URL"]
        return {"default": url, **{name: f"{url}_{name}" for name in PARTICIPANTS}}

    @cached_property
    def operator(self) -> Client:
        """Somebody who may do everything over the API, and sabotage the participants."""
        participants = f"http://127.0.0.1:{self.config.ports['PORT_PARTICIPANTS']}"
        return Client(self.config.api_url, participants, self.secrets["operator"], self.secrets["credential"])

    def start_servers(self) -> None:
        """Start PostgreSQL and Redis."""
        self.postgres.start()
        self.redis.start()
        self._create_role()

    def stop_servers(self) -> None:
        """Stop both, if they run."""
        self.redis.stop()
        self.postgres.stop()

    def start(self) -> None:
        """Make the databases, start the processes; return when all is healthy."""
        program(self.environment, "-m", "stack.prepare")
        self.crashes.mkdir()
        (self.config.run / "beat").mkdir(parents=True)
        for process in self.everything:
            process.start()
        for process in self.everything:
            process.wait_healthy()

    def stop(self) -> None:
        """Stop what still runs."""
        self.operator.http.clear()
        stop_all(self.everything)

    def mend(self) -> None:
        """Bring back what a test has taken away; forget what it asked for."""
        for request in self.crashes.iterdir():
            request.unlink(missing_ok=True)
        for process in self.everything:
            if not process.ended():
                process.signal(signal.SIGCONT)
        if not self.postgres.running():
            self.postgres.start()
        if not self.redis.answers():
            self.redis.start()
        gone = [process for process in self.everything if process.ended()]
        for process in gone:
            process.start()
        for process in gone:
            process.wait_healthy()
        self.operator.end_faults()

    # --- Sagas

    def sale(self, *faults: Fault, saga_type: str = "brisk_sale", **of_basket: Any) -> str:
        """Start a sale that these faults will hit; answers its id."""
        return self.begin(saga_type, basket(**of_basket), *faults)

    def begin(self, saga_type: str, data: Document, *faults: Fault) -> str:
        """Start a saga that these faults, and no other saga's, will hit; answers its id."""
        answer = self.operator.start(saga_type, data, execute=not faults)
        saga_id = str(answer.saga["id"])
        if faults:
            self.sabotage(saga_id, *faults)
            self.operator.intervene(saga_id, "execute")
        return saga_id

    def sabotage(self, saga_id: str, *faults: Fault) -> None:
        """Let faults hit the calls of one saga."""
        for fault in faults:
            participant, step = fault.at or ("", "")
            options = {"times": fault.times, "seconds": fault.seconds, "code": fault.code}
            match = {"saga_id": saga_id} | ({"saga_step": step} if step else {})
            self.operator.fault(fault.operation, fault.kind, participant, match=match, **options)

    def ended(self, saga_id: str, *, within: float = PATIENCE) -> Document:
        """The saga when it has come to rest; fails the test if it does not in time."""
        return self.ended_all([saga_id], within=within)[0]

    def ended_all(self, saga_ids: Sequence[str], *, within: float = PATIENCE) -> list[Document]:
        """The sagas when all of them have come to rest."""
        resting = sorted(RESTING)
        asked = "SELECT count(*) AS n FROM sagas_saga WHERE id = ANY(%s) AND status = ANY(%s)"
        ids = list(saga_ids)
        wait_until(lambda: self.rows("default", asked, ids, resting)[0]["n"] == len(ids), within, pause=0.1)
        sagas = [self.operator.saga(saga_id) for saga_id in saga_ids]
        moving = {s["id"]: self.history(s["id"]) for s in sagas if s["status"] not in RESTING}
        assert not moving, f"not at rest after {within} s: {moving}"
        return sagas

    def moving(self, saga_ids: Collection[str]) -> int:
        """How many of these sagas have not come to rest."""
        asked = "SELECT count(*) AS n FROM sagas_saga WHERE id = ANY(%s) AND NOT status = ANY(%s)"
        return int(self.rows("default", asked, list(saga_ids), sorted(RESTING))[0]["n"])

    def wait_struck(self, saga_id: str, operation: str) -> None:
        """Return when the participants have let a fault hit that operation of a saga, for its last time."""
        asked = """SELECT count(*) AS n FROM {} WHERE operation = %s AND remaining = 0
                   AND match @> jsonb_build_object('saga_id', %s::text)"""
        tables = {name: sql.SQL(asked).format(sql.Identifier(f"{name}_fault")) for name in SELLING}
        struck = wait_until(
            lambda: any(self.rows(name, query, operation, saga_id)[0]["n"] for name, query in tables.items()),
            PATIENCE,
        )
        assert struck, f"{operation} was not called: {self.history(saga_id)}"

    def wait_for(self, saga_id: str, kind: str) -> None:
        """Return when the audit of a saga has a row of that kind."""
        assert wait_until(lambda: kind in self.kinds(saga_id), PATIENCE, pause=0.1), self.history(saga_id)

    def check(self) -> None:
        """Wait until every saga has come to rest, then assert what must hold for all of them."""
        asked = "SELECT id::text FROM sagas_saga WHERE NOT status = ANY(%s) AND deadline_at IS NOT NULL"
        moving = [row["id"] for row in self.rows("default", asked, sorted(RESTING))]
        self.ended_all(moving)
        assert_invariants(self.databases, self.alerted())

    # --- Looking inside

    def figures(self) -> Counter[str]:
        """What customers, shelves and files hold; fails if stock or money of a participant do not add up."""
        told = program(self.environment, "-m", "tests.acceptance.books")
        return Counter(json.loads(told))

    def rows(self, alias: str, query: str | sql.Composed, *params: object) -> list[dict[str, Any]]:
        """What a query answers."""
        url = self.databases[alias]
        with psycopg.connect(url, row_factory=dict_row, autocommit=True, connect_timeout=5) as connection:
            return connection.execute(query, params).fetchall()

    def history(self, saga_id: str) -> list[str]:
        """The audit of a saga, a line each, for the message of a failed test."""
        asked = "SELECT * FROM sagas_sagaevent WHERE saga_id = %s ORDER BY id"
        return [
            f"{row['at']:%T.%f} e{row['epoch']} {row['kind']} {row['step']} #{row['attempt']} {row['detail']}"
            for row in self.rows("default", asked, saga_id)
        ]

    def kinds(self, saga_id: str) -> list[str]:
        """The kinds of a saga's audit rows, in order."""
        asked = "SELECT kind FROM sagas_sagaevent WHERE saga_id = %s ORDER BY id"
        return [row["kind"] for row in self.rows("default", asked, saga_id)]

    def canary(self) -> datetime:
        """When a worker has last shown that it works."""
        (row,) = self.rows("default", "SELECT max(at) AS at FROM sagas_heartbeat WHERE name = 'canary'")
        return row["at"] or datetime.min.replace(tzinfo=UTC)

    def alerted(self) -> set[str]:
        """The sagas that an error line of the logs calls a person for."""
        found: set[str] = set()
        for process in self.everything:
            for line in process.log.read_text(errors="replace").splitlines():
                entry = parsed(line)
                if entry.get("level") == "error" and entry.get("event") in ALARMS:
                    found.add(str(entry["saga"]))
        return found

    def send(self, task: str, *arguments: object, queue: str) -> None:
        """Publish a message of the engine's, once more."""
        with Celery(broker=self.environment["REDIS_URL"], set_as_current=False) as app:
            app.send_task(task, args=arguments, queue=queue)

    # --- Making

    def second_beat(self) -> Running:
        """One more beat than there should be, not started yet."""
        first = processes.beat(self.config)
        schedule = f"--schedule={self.folder / 'second-beat'}"
        command = tuple(schedule if word.startswith("--schedule=") else word for word in first.command)
        return self._running(processes.Process("second-beat", command, lambda: True, first.environment))

    def _running(self, process: processes.Process) -> Running:
        environment = {**process.environment}
        if environment.get("DJANGO_SETTINGS_MODULE") == "sagaproject.settings":
            environment["DJANGO_SETTINGS_MODULE"] = "tests.acceptance.settings"
        named = processes.Process(process.name, process.command, process.healthy, environment)
        return Running(named, self.environment, self.folder)

    def _create_role(self) -> None:
        """A role with a password worth looking for, whose commits survive a crash of the server."""
        with psycopg.connect(f"{self.postgres.url}/postgres", autocommit=True) as connection:
            role, password = sql.Identifier(ROLE), sql.Literal(self.secrets["database"])
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN SUPERUSER PASSWORD {}").format(role, password))
            connection.execute(sql.SQL("ALTER ROLE {} SET synchronous_commit = on").format(role))

    def _environment(self) -> dict[str, str]:
        names = ("VIRTUAL_ENV", "PATH", "HOME", "LANG", "TMPDIR")
        here = {name: os.environ[name] for name in names if name in os.environ}
        database = urlsplit(self.postgres.url).netloc.rpartition("@")[2]
        redis = urlsplit(self.redis.url).netloc
        return {
            **here,
            **TIMES,
            **{name: str(free_port()) for name in PORTS},
            "DATA_DIR": str(self.folder / "data"),
            "DATABASE_URL": f"postgresql://{ROLE}:{self.secrets['database']}@{database}/acceptance",
            "REDIS_URL": f"redis://default:{self.secrets['redis']}@{redis}/0",
            "PARTICIPANT_CREDENTIAL": self.secrets["credential"],
            "PARTICIPANTS_FAULTS": "1",
            "DJANGO_DEBUG": "0",
            "DJANGO_SECRET_KEY": self.secrets["django"],
            "EVENT_KEYS": self.secrets["events"],
            "DJANGO_ALLOWED_HOSTS": "127.0.0.1",
            "SEED_DEMO_USERS": "1",
            "DEMO_TOKEN_OPERATOR": self.secrets["operator"],
            "DEMO_TOKEN_CLIENT": self.secrets["client"],
            "CRASH_FOLDER": str(self.crashes),
            "LOG_FORMAT": "json",
            "PYTHONUNBUFFERED": "1",
        }


def parsed(line: str) -> dict[str, Any]:
    """A line of a JSON log; an empty object for what is none."""
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


@contextmanager
def whole_world(folder: Path) -> Iterator[World]:
    """A world that is up, and gone afterwards."""
    with ExitStack() as stack:
        folder.chmod(0o711)  # nobody has to pass, where PostgreSQL runs as nobody
        world = World(folder)
        stack.callback(world.stop_servers)
        world.start_servers()
        pids = [pid for pid in (world.postgres.pid, world.redis.pid) if pid is not None]
        stack.enter_context(guarded(folder / "postgres", pids))  # the logs stay, to be read
        stack.callback(world.stop)
        world.start()
        yield world
