"""`python -m tests.benchmarks.choreography`: the choreography against its targets, on servers of its own.

Measures the comparison of both patterns, the bus, and replay and rebuild in a store of a million events;
prints the numbers with their targets and writes `build/bench-choreography.json`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import psycopg
import redis

from sagas.choreography.bus import Bus
from stack import processes
from stack.config import PORTS, ROOT, Config
from stack.guard import guarded
from stack.health import worker_inspector
from stack.ports import free_port
from stack.servers import Postgres, Redis
from stack.waiting import wait_until
from tests.acceptance.running import Running
from tests.benchmarks.stage import cpu_seconds

OUTPUT = ROOT / "build" / "bench-choreography.json"
TOPIC = "ecommerce.checkout.events"
PATIENCE = 120.0
TICK = 0.01
# An event that only the audit takes; every group reads it off the stream, though.
EVENTS = """
WITH stored AS (
    INSERT INTO choreography_event (at, event_id, topic, stream, version, type, schema_version, source,
                                    correlation_id, sealed, data)
    SELECT clock_timestamp(), gen_random_uuid(), %(topic)s, gen_random_uuid(), 1, 'StockReleased', 1, 'bench',
           'bench', '', '{"checkout_id": "01890000-0000-7000-8000-000000000001"}'
      FROM generate_series(1, %(count)s)
    RETURNING position, at
)
INSERT INTO choreography_outbox (position, at) SELECT position, at FROM stored
"""
LATENCIES = """
SELECT percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM recorded_at - at)),
       count(*), extract(epoch FROM max(recorded_at) - min(at))
  FROM choreography_auditentry WHERE source = 'bench' AND position > %(after)s
"""
# A month of checkouts: of every three, one that succeeded (4 events) and two that failed (3 events each).
MONTH = """
CREATE TEMP TABLE made AS
SELECT n, gen_random_uuid() AS stream, n %% 3 = 0 AS good,
       date_trunc('day', now()) - interval '29 days' + n * (interval '29 days' / %(streams)s) AS at,
       (SELECT array_agg(id) FROM choreography_clientkey)[1 + n %% %(clients)s] AS client
  FROM generate_series(1, %(streams)s) AS n;
"""
KEYS = """
INSERT INTO choreography_clientkey (id, client_id, key)
SELECT gen_random_uuid(), 1000000 + n, %(key)s FROM generate_series(1, %(clients)s) AS n
"""
STREAMS = """
INSERT INTO choreography_stream (id, topic, version, status, succeeded, client, correlation_id, created_at,
                                 updated_at, ended_at)
SELECT stream, %(topic)s, CASE WHEN good THEN 4 ELSE 3 END, 'x', good, client, 'bench', at,
       at + interval '20 ms', at + interval '20 ms' FROM made
"""
MILLION = """
INSERT INTO choreography_event (at, event_id, topic, stream, version, type, schema_version, source,
                                correlation_id, client, sealed, data)
SELECT made.at + told.version * interval '5 ms', gen_random_uuid(), %(topic)s, made.stream, told.version,
       told.type, 1, 'month', 'bench', made.client, %(sealed)s,
       jsonb_build_object('checkout_id', made.stream, 'store_id', 1 + n %% 5, 'order_id', n,
                          'amount', '59.98', 'currency', 'EUR',
                          'items', '[{"product_id": 456, "quantity": 2}]'::jsonb)
  FROM made JOIN (VALUES (true, 1, 'CheckoutInitiated'), (true, 2, 'StockReserved'),
                         (true, 3, 'OrderCreated'), (true, 4, 'CheckoutSucceeded'),
                         (false, 1, 'CheckoutInitiated'), (false, 2, 'StockReservationFailed'),
                         (false, 3, 'CheckoutFailed')) AS told (good, version, type)
    ON told.good = made.good
 ORDER BY made.at, told.version
"""

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
        self.worker = self._running(processes.workers(self.config, inspect)[0])
        self.relay = self._running(make(self.config, "relay", "PORT_RELAY_METRICS", "relay"))
        self.consumers = self._running(
            make(self.config, "consumers", "PORT_CONSUMER_METRICS", "consume", "all")
        )

    @property
    def everything(self) -> Sequence[Running]:
        """All processes."""
        return (self.participants, self.worker, self.relay, self.consumers)

    def run(self, *arguments: str) -> str:
        """A Python program of the project; what it prints."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**self.config.environment, "DJANGO_SETTINGS_MODULE": "sagaproject.settings"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        return done.stdout

    def connect(self) -> psycopg.Connection[Any]:
        """A connection to the database of events."""
        return psycopg.connect(self.config.environment["DATABASE_URL"], autocommit=True)

    def stop(self) -> None:
        """Stop it all."""
        for process in self.everything:
            process.ask_to_end()
        for process in self.everything:
            process.stop()
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


# --- Measuring ----------------------------------------------------------------------------------------


def compared(on: Bench, options: argparse.Namespace) -> Found:
    """Both patterns under the load of the users."""
    for process in on.everything:
        process.start()
    for process in on.everything:
        process.wait_healthy()
    output = on.folder / "compared.json"
    given = {"users": options.users, "checkouts": options.checkouts, "rate": options.rate}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    say(on.run("manage.py", "compare", *words, "--output", str(output)))
    found: Found = json.loads(output.read_text())
    return found


def carried(on: Bench, database: psycopg.Connection[Any], options: argparse.Namespace) -> Found:
    """The bus: a burst for its throughput, a steady pace for its latency."""
    for idle in (on.participants, on.worker):
        idle.stop()
    before = {process.name: spent(process) for process in (on.relay, on.consumers)}
    burst = audited(database, options.events, lambda: store_events(database, options.events))
    cpu = {process.name: spent(process) - before[process.name] for process in (on.relay, on.consumers)}
    bus = Bus(redis.Redis.from_url(on.redis.url))
    paced = audited(
        database, options.pace * options.seconds, lambda: store_paced(database, options, bus.ring)
    )
    return {
        "burst events": options.events,
        "burst events/s": round(options.events / burst["span"]),
        "cpu ms an event": {name: round(1000 * s / options.events, 3) for name, s in cpu.items()},
        "paced events/s": round(options.pace * options.seconds / paced["span"]),
        "paced p50 ms": round(1000 * paced["latencies"][0], 1),
        "paced p95 ms": round(1000 * paced["latencies"][1], 1),
        "paced p99 ms": round(1000 * paced["latencies"][2], 1),
    }


def audited(database: psycopg.Connection[Any], count: int, make: Callable[[], None]) -> Found:
    """Store events, wait until all are audited; their latencies and how long it took."""
    after = one(database, "SELECT coalesce(max(position), 0) FROM choreography_event")
    make()
    given = {"after": after}
    counting = "SELECT count(*) FROM choreography_auditentry WHERE position > %(after)s"
    done = wait_until(lambda: one(database, counting, given) >= count, PATIENCE, pause=0.1)
    row = database.execute(LATENCIES, given).fetchone()
    if not done or row is None:
        raise SystemExit("not all events were consumed")
    return {"latencies": row[0], "span": float(row[2])}


def store_events(database: psycopg.Connection[Any], count: int) -> None:
    """So many events at once."""
    database.execute(EVENTS, {"topic": TOPIC, "count": count})


def store_paced(
    database: psycopg.Connection[Any], options: argparse.Namespace, ring: Callable[[], None]
) -> None:
    """Events at a steady pace, a few every hundredth of a second, each time with a ring as all who store."""
    began, stored = time.monotonic(), 0
    while stored < options.pace * options.seconds:
        due = min(int((time.monotonic() - began) * options.pace), options.pace * options.seconds)
        if due > stored:
            store_events(database, due - stored)
            stored = due
            ring()
        time.sleep(TICK)


def remembered(on: Bench, database: psycopg.Connection[Any], options: argparse.Namespace) -> Found:
    """Replay and rebuild in a large store."""
    for idle in (on.relay, on.consumers):
        idle.stop()
    fill(database, options.orders, json.loads(on.run("-m", "tests.benchmarks.remembering", "seal", "1")))
    events = one(database, "SELECT count(*) FROM choreography_event WHERE source = 'month'")
    found: Found = {"events": events, "orders": options.orders}
    found["replay ms"] = replayed(on, options.replays)
    for name in ("orders-by-client", "revenue-by-store-day"):
        seconds = json.loads(on.run("-m", "tests.benchmarks.remembering", "rebuild", name.replace("-", "")))
        found[f"rebuild {name} s"] = round(seconds, 3)
    return found


def replayed(on: Bench, count: int) -> Found:
    """Replay so many checkouts from all over the month, each to its state."""
    times: list[float] = json.loads(on.run("-m", "tests.benchmarks.remembering", "replay", str(count)))
    ordered = sorted(times)
    return {
        "first": round(times[0], 2),
        "p50": round(median(times), 2),
        "p95": round(ordered[int(0.95 * len(ordered))], 2),
        "slowest": round(ordered[-1], 2),
    }


def fill(database: psycopg.Connection[Any], orders: int, personal: Mapping[str, str]) -> None:
    """A month of checkouts with so many orders, and ten thousand clients or fewer, all sealed alike."""
    given = {"topic": TOPIC, "streams": 3 * orders, "clients": min(10_000, orders), **personal}
    given["key"] = personal["key"].encode()
    database.execute("SELECT choreography_make_partitions((now() - interval '30 days')::date, now()::date)")
    for statement in (KEYS, MONTH, STREAMS, MILLION):
        with psycopg.ClientCursor(database) as cursor:
            cursor.execute(statement, given)
    database.execute("ANALYZE choreography_event, choreography_stream, choreography_clientkey")


def one(database: psycopg.Connection[Any], query: str, given: Mapping[str, Any] | None = None) -> Any:
    """The one value of a query."""
    row = database.execute(query.encode(), given).fetchone()
    return None if row is None else row[0]


def spent(process: Running) -> float:
    """CPU seconds of a process so far."""
    return cpu_seconds(psutil.Process(process.pid))


# --- Reporting ----------------------------------------------------------------------------------------


def verdicts(found: Found) -> Iterator[tuple[str, str, str, bool]]:
    """Each target: what, measured, target, whether it is met."""
    if both := found.get("compared"):
        choreographed, orchestrated = both["choreographed"]["p95 s"], both["orchestrated"]["p95 s"]
        yield "choreographed p95", f"{choreographed:.3f} s", "< 0.5 s", choreographed < 0.5
        yield "orchestrated p95", f"{orchestrated:.3f} s", "< 2 s", orchestrated < 2
        slowest = both["choreographed"]["stock released, slowest s"]
        yield "stock released after", f"{slowest:.3f} s", "< 5 s", slowest < 5
    if bus := found.get("bus"):
        rate = bus["burst events/s"]
        yield "events published and consumed", f"{rate}/s", "> 1000/s", rate > 1000
        paced = f"p50 {bus['paced p50 ms']}, p95 {bus['paced p95 ms']}, p99 {bus['paced p99 ms']} ms"
        yield "their latency", f"{paced} at {bus['paced events/s']}/s", "", True
    if store := found.get("store"):
        slowest = store["replay ms"]["p95"]
        yield f"replay in {store['events']} events, p95", f"{slowest} ms", "< 50 ms", slowest < 50
        rebuilt = store["rebuild orders-by-client s"]
        yield f"rebuild of {store['orders']} orders", f"{rebuilt} s", "< 10 s", rebuilt < 10


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.choreography", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=["compared", "bus", "store"], default=None)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--checkouts", type=int, default=300)
    parser.add_argument("--rate", type=float, default=10)
    parser.add_argument("--events", type=int, default=20_000, help="of the burst")
    parser.add_argument("--pace", type=int, default=1500, help="events a second")
    parser.add_argument("--seconds", type=int, default=8, help="of the steady pace")
    parser.add_argument(
        "--orders", type=int, default=100_000, help="in the store; it has ten events an order"
    )
    parser.add_argument("--replays", type=int, default=300)
    parser.add_argument("--durable", action="store_true", help="fsync and append-only file on")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    return parser.parse_args(given)


def main(given: Sequence[str]) -> int:
    """0 when every target that was measured is met."""
    options = arguments(given)
    parts = options.parts or ["compared", "bus", "store"]
    found: Found = {"load before": os.getloadavg(), "durable": options.durable}
    with bench(durable=options.durable) as on, on.connect() as database:
        found["compared"] = compared(on, options) if "compared" in parts else None
        if "bus" in parts:
            for process in (on.relay, on.consumers):
                if process.ended():
                    process.restart()
            found["bus"] = carried(on, database, options)
        found["store"] = remembered(on, database, options) if "store" in parts else None
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=2))
    say(json.dumps({name: found[name] for name in ("bus", "store") if found.get(name)}, indent=2))
    met = True
    for what, measured, target, ok in verdicts(found):
        say(f"{what:<44}{measured:<44}{target:<12}{'' if ok else 'MISSED'}")
        met = met and ok
    return 0 if met else 1


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
