"""The choreography as processes of its own, what tests may do to it, and what must hold afterwards."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import redis
import urllib3
from psycopg import sql
from psycopg.rows import dict_row

from stack import processes
from stack.config import PORTS, Config
from stack.guard import guarded
from stack.health import worker_inspector
from stack.ports import free_port
from stack.servers import Postgres, Redis
from stack.waiting import wait_until
from tests.acceptance.running import Running, program, stop_all

CREDENTIAL, TOKEN = "of-the-eventful-world", "an-operator-of-events"
PATIENCE = 60.0
PATH = "/api/commandes/clients/{client}/checkout/choreo/"
TIMES = {
    "EVENT_CALL_TIMEOUT_SECONDS": "1",
    "EVENT_CLAIM_AFTER_SECONDS": "3",
    "EVENT_BACKOFF_SECONDS": "0.2",
    "EVENT_TIMEOUT_SECONDS": "30",
}
# What is wrong with the events themselves, if anything; each of these must find nothing.
WRONG_EVENTS = {
    "gaps in a stream": """
        SELECT stream, count(*), max(version) FROM choreography_event GROUP BY stream
        HAVING count(*) <> max(version) OR count(DISTINCT version) <> count(*)""",
    "a stream out of order": """
        SELECT a.stream FROM choreography_event a JOIN choreography_event b
          ON a.stream = b.stream AND a.version < b.version AND a.position > b.position""",
    "an event twice": "SELECT event_id FROM choreography_event GROUP BY event_id HAVING count(*) > 1",
    "more than one end": """
        SELECT stream FROM choreography_event WHERE type IN ('CheckoutSucceeded', 'CheckoutFailed')
         GROUP BY stream HAVING count(*) <> 1""",
    "an event that is not audited once": """
        SELECT e.position FROM choreography_event e FULL JOIN choreography_auditentry a USING (position)
         GROUP BY e.position HAVING count(e.at) <> count(a.at)""",
}
READ_MODELS = {
    "orders-by-client": "SELECT client_id, total_orders, last_order_id, last_checkout_id, last_update_ts"
    " FROM choreography_ordersbyclient ORDER BY 1",
    "revenue-by-store-day": "SELECT store_id, day, currency, orders, revenue"
    " FROM choreography_revenuebystoreday ORDER BY 1, 2, 3",
}
GOOD = """
SELECT id::text FROM choreography_stream WHERE succeeded
 UNION ALL SELECT id::text FROM sagas_saga WHERE status = 'completed'"""
ORDERS = (
    "SELECT id, saga_id, client_id, reservation_id FROM orders_order WHERE status = 'CREATED' ORDER BY id"
)
RESERVATIONS = """
SELECT r.id, o.saga_id FROM inventory_reservation r
  JOIN inventory_operation o ON o.name = 'reserve-stock' AND o.answer <> ''
   AND (o.answer::jsonb #>> '{data,reservation_id}')::bigint = r.id
 WHERE r.status = 'RESERVED' ORDER BY r.id"""
STOCK = """
SELECT s.store_id, s.product_id, s.reserved, coalesce(sum(l.quantity), 0) AS held
  FROM inventory_stock s
  LEFT JOIN inventory_reservation r ON r.store_id = s.store_id AND r.status = 'RESERVED'
  LEFT JOIN inventory_reservationline l ON l.reservation_id = r.id AND l.product_id = s.product_id
 GROUP BY s.id HAVING s.reserved <> coalesce(sum(l.quantity), 0)"""


class Eventful:
    """Participants, API, relay, and two processes of consumers that share the work."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres = Postgres(folder / "postgres", free_port(), throwaway=True)
        self.redis = Redis(folder / "redis", free_port(), throwaway=True)
        self.config = Config.parse(self._environment())
        make = processes.events
        self.participants = self._running(processes.participants(self.config))
        self.api = self._running(processes.api(self.config))
        self.relay = self._running(make(self.config, "relay", "PORT_RELAY_METRICS", "relay"))
        self.consumers = self._running(
            make(self.config, "consumers", "PORT_CONSUMER_METRICS", "consume", "all")
        )
        # On ports that this world has for others; those that a test starts are stopped by it.
        self.more_consumers = self._running(
            make(self.config, "more-consumers", "PORT_FLOWER", "consume", "all")
        )
        self.second_relay = self._running(make(self.config, "second", "PORT_MAINTENANCE_METRICS", "relay"))
        steps = processes.workers(self.config, worker_inspector(self.redis.url))[0]
        self.worker = self._running(steps)
        self.http = urllib3.PoolManager(retries=False, maxsize=8, timeout=PATIENCE)

    @property
    def everything(self) -> Sequence[Running]:
        """What always runs, in the order of starting."""
        return (self.participants, self.api, self.relay, self.consumers, self.more_consumers)

    @cached_property
    def databases(self) -> dict[str, str]:
        """URLs by alias."""
        url = self.config.environment["DATABASE_URL"]
        return {"default": url, **{name: f"{url}_{name}" for name in ("orders", "inventory")}}

    def start(self) -> None:
        """Start servers, databases and processes; return when all is healthy."""
        self.postgres.start()
        self.redis.start()
        self.run("-m", "stack.prepare")
        for alias, statement in (
            ("inventory", "UPDATE inventory_stock SET quantity = quantity + 99000 WHERE product_id = 457"),
        ):
            self.rows(alias, statement)
        for process in self.everything:
            process.start()
        for process in self.everything:
            process.wait_healthy()

    def stop(self) -> None:
        """Stop what still runs."""
        stop_all((*self.everything, self.second_relay, self.worker))
        self.redis.stop()
        self.postgres.stop()

    def mend(self) -> None:
        """Bring back what a test has taken away."""
        gone = [process for process in self.everything if process.ended()]
        for process in gone:
            process.start()
        for process in gone:
            process.wait_healthy()
        self.participants_send("DELETE")

    # --- Doing

    def checkout(self, *, product: int = 457, quantity: int = 1, client: int = 123, store: int = 1) -> str:
        """Start a checkout over the API; answers its id."""
        body = {"store_id": store, "items": [{"product_id": product, "quantity": quantity}]}
        answer = self.http.request(
            "POST",
            f"{self.config.api_url}{PATH.format(client=client)}",
            json=body,
            headers={"Authorization": f"Token {TOKEN}", "Idempotency-Key": str(uuid4())},
        )
        assert answer.status == 202, answer.data
        return str(answer.json()["checkout_id"])

    def fault(self, operation: str, kind: str, **options: object) -> None:
        """Have a participant misbehave."""
        self.participants_send("POST", {"operation": operation, "kind": kind, **options})

    def participants_send(self, method: str, body: Mapping[str, object] | None = None) -> None:
        """Switch faults on, or all of them off."""
        answer = self.http.request(
            method,
            f"http://127.0.0.1:{self.config.ports['PORT_PARTICIPANTS']}/faults",
            json=body,
            headers={"Authorization": f"Bearer {CREDENTIAL}"},
        )
        assert answer.status in (200, 201), answer.data

    def flush(self) -> None:
        """Empty Redis."""
        with redis.Redis.from_url(self.config.environment["REDIS_URL"]) as client:
            client.flushall()

    def run(self, *arguments: str) -> str:
        """A Python program of the project; what it prints."""
        return program(self.config.environment, *arguments)

    def events(self, *arguments: str) -> str:
        """`manage.py events`."""
        return self.run("manage.py", "events", *arguments)

    # --- Looking

    def rows(self, alias: str, query: str, *params: object) -> list[dict[str, Any]]:
        """What a query answers."""
        with psycopg.connect(self.databases[alias], row_factory=dict_row, autocommit=True) as connection:
            cursor = connection.execute(query.encode(), params)
            return cursor.fetchall() if cursor.description else []

    def statuses(self, ids: Sequence[str], within: float = PATIENCE) -> list[str]:
        """How these checkouts have ended, once they all have."""
        asked = (
            "SELECT count(*) AS n FROM choreography_stream WHERE id = ANY(%s::uuid[]) AND ended_at IS NULL"
        )
        assert wait_until(lambda: self.rows("default", asked, list(ids))[0]["n"] == 0, within, pause=0.1), [
            self.types(one) for one in ids
        ]
        rows = self.rows("default", "SELECT id::text, status FROM choreography_stream")
        found = {row["id"]: row["status"] for row in rows}
        return [found[one] for one in ids]

    def types(self, stream: str) -> list[str]:
        """What has happened in a checkout."""
        asked = "SELECT type FROM choreography_event WHERE stream = %s ORDER BY version"
        return [row["type"] for row in self.rows("default", asked, stream)]

    def wait_for(self, stream: str, type: str) -> None:
        """Return when that has happened in a checkout."""
        assert wait_until(lambda: type in self.types(stream), PATIENCE, pause=0.05), self.types(stream)

    def wait_struck(self, alias: str) -> None:
        """Return when a participant has let its fault hit for the last time."""
        table = sql.Identifier(f"{alias}_fault")
        asked = sql.SQL("SELECT count(*) AS n FROM {} WHERE remaining = 0").format(table)
        url = f"{self.databases['default']}_{alias}"
        with psycopg.connect(url, row_factory=dict_row, autocommit=True) as connection:

            def struck() -> bool:
                row = connection.execute(asked).fetchone()
                return row is not None and bool(row["n"])

            assert wait_until(struck, PATIENCE, pause=0.02), f"no fault of {alias} has struck"

    # --- Judging

    def check(self) -> None:
        """Every checkout has ended, stock and orders add up, and read models equal their rebuild."""
        rows = self.rows("default", "SELECT id::text FROM choreography_stream")
        self.statuses([row["id"] for row in rows])
        self.wait_quiet()
        for what, query in WRONG_EVENTS.items():
            assert not self.rows("default", query), what
        succeeded = self.rows("default", GOOD)
        expected = sorted(row["id"] for row in succeeded)
        orders, held = self.rows("orders", ORDERS), self.rows("inventory", RESERVATIONS)
        assert sorted(row["saga_id"] for row in orders) == expected
        assert sorted(row["saga_id"] for row in held) == expected
        assert sorted(row["reservation_id"] for row in orders) == sorted(row["id"] for row in held)
        assert not self.rows("inventory", STOCK)
        for name, query in READ_MODELS.items():
            before = self.rows("default", query)
            self.events("rebuild", name)
            assert self.rows("default", query) == before, name

    def wait_quiet(self) -> None:
        """Return when every group has handled every event it listens to."""
        asked = """
            SELECT (SELECT count(*) FROM choreography_outbox)
                 + (SELECT count(*) FROM choreography_event e
                     WHERE e.type IN ('OrderCreated', 'CheckoutSucceeded', 'CheckoutFailed')
                       AND NOT EXISTS (SELECT FROM choreography_inbox i WHERE i.event_id = e.event_id
                             AND i.consumer = CASE e.type WHEN 'OrderCreated' THEN 'checkout-cqrs'
                                                         ELSE 'choreo-notification' END))
                 + (SELECT count(*) FROM choreography_event e
                     WHERE NOT EXISTS (SELECT FROM choreography_inbox i WHERE i.event_id = e.event_id
                             AND i.consumer = 'choreo-audit')) AS n"""
        assert wait_until(lambda: self.rows("default", asked)[0]["n"] == 0, PATIENCE, pause=0.1), "not quiet"

    # --- Making

    def _running(self, process: processes.Process) -> Running:
        return Running(process, self.config.environment, self.folder)

    def _environment(self) -> dict[str, str]:
        names = ("VIRTUAL_ENV", "PATH", "HOME", "LANG", "TMPDIR")
        return {
            **{name: os.environ[name] for name in names if name in os.environ},
            **TIMES,
            **{name: str(free_port()) for name in PORTS},
            "DATA_DIR": str(self.folder / "data"),
            "DATABASE_URL": f"{self.postgres.url}/eventful",
            "REDIS_URL": f"{self.redis.url}",
            "PARTICIPANT_CREDENTIAL": CREDENTIAL,
            "PARTICIPANTS_FAULTS": "1",
            "DJANGO_DEBUG": "0",
            "DJANGO_SECRET_KEY": "of-the-eventful-world",
            "EVENT_KEYS": "of-the-eventful-world-and-of-nothing-else",
            "DJANGO_ALLOWED_HOSTS": "127.0.0.1",
            "SEED_DEMO_USERS": "1",
            "DEMO_TOKEN_OPERATOR": TOKEN,
            "LOG_FORMAT": "json",
            "PYTHONUNBUFFERED": "1",
        }


@contextmanager
def eventful_world(folder: Path) -> Iterator[Eventful]:
    """A world that is up, and gone afterwards."""
    with ExitStack() as stack:
        folder.chmod(0o711)  # nobody has to pass, where PostgreSQL runs as nobody
        world = Eventful(folder)
        stack.callback(world.stop)
        world.start()
        pids = [pid for pid in (world.postgres.pid, world.redis.pid) if pid is not None]
        stack.enter_context(guarded(folder, pids))
        yield world
