"""Replay and rebuild in a store of a month of checkouts."""

import argparse
import json
from collections.abc import Mapping
from statistics import median
from typing import Any

import psycopg

from tests.benchmarks.eventful import Bench, Found, one

TOPIC = "ecommerce.checkout.events"
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
