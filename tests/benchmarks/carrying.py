"""What the bus carries: how much in a burst, and how fast at a steady pace."""

import argparse
import time
from collections.abc import Callable
from typing import Any

import psutil
import psycopg
import redis

from sagas.choreography.bus import Bus
from stack.waiting import wait_until
from tests.acceptance.running import Running
from tests.benchmarks.eventful import Bench, Found, one
from tests.benchmarks.stage import cpu_seconds

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


def spent(process: Running) -> float:
    """CPU seconds of a process so far."""
    return cpu_seconds(psutil.Process(process.pid))
