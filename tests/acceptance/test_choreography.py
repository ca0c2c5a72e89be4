"""The choreography with processes that are killed, transport that forgets, and messages that come twice.

After every test: every checkout has ended, stock and orders add up, read models equal their rebuild.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
import redis

from tests.acceptance.eventful import Eventful, eventful_world

pytestmark = pytest.mark.slow
STREAM = "ecommerce.checkout.events"


@pytest.fixture(scope="module")
def running_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Eventful]:
    """Servers and processes, for all these tests."""
    with eventful_world(tmp_path_factory.mktemp("eventful")) as world:
        yield world


@pytest.fixture
def world(running_world: Eventful) -> Iterator[Eventful]:
    """The world, whole and healthy."""
    running_world.mend()
    yield running_world
    running_world.mend()
    running_world.check()


def load(world: Eventful, count: int) -> list[str]:
    """So many checkouts, four at a time; every fifth cannot be ordered, every seventh not reserved."""

    def one(number: int) -> str:
        if number % 7 == 6:
            return world.checkout(product=456, quantity=5000)
        if number % 5 == 4:
            return world.checkout(product=458)
        return world.checkout(store=1 + number % 2, client=123 + number % 3)

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(one, range(count)))


def test_checkouts_of_every_kind(world: Eventful) -> None:
    ids = load(world, 35)
    statuses = world.statuses(ids)
    expected = ["failed" if n % 7 == 6 or n % 5 == 4 else "succeeded" for n in range(35)]
    assert statuses == expected


@pytest.mark.parametrize(
    ("participant", "operation", "product"),
    [
        ("inventory", "reserve-stock", 457),
        ("orders", "create-order", 457),
        ("inventory", "release-stock", 458),
        ("notifications", "send-confirmation", 457),
    ],
)
def test_consumers_killed_between_call_and_record(
    world: Eventful, participant: str, operation: str, product: int
) -> None:
    world.fault(operation, "hang_after", seconds=0.9)
    stream = world.checkout(product=product)
    world.wait_struck(participant)
    world.consumers.kill()
    world.more_consumers.kill()
    world.consumers.restart()
    assert world.statuses([stream]) == ["failed" if product == 458 else "succeeded"]


def test_consumers_killed_one_after_the_other_under_load(world: Eventful) -> None:
    with ThreadPoolExecutor(1) as background:
        loading = background.submit(load, world, 80)
        for victim in (world.consumers, world.more_consumers, world.consumers):
            first = world.checkout()
            world.wait_for(first, "StockReserved")
            victim.kill()
            victim.restart()
        ids = loading.result()
    assert len(world.statuses(ids)) == 80


def test_relays_killed_under_load_while_another_takes_over(world: Eventful) -> None:
    world.second_relay.restart()
    with ThreadPoolExecutor(1) as background:
        loading = background.submit(load, world, 60)
        for _ in range(2):
            world.wait_for(world.checkout(), "StockReserved")
            world.relay.kill()
            world.wait_for(world.checkout(), "OrderCreated")
            world.relay.restart()
            world.second_relay.kill()
            world.second_relay.restart()
        ids = loading.result()
    world.second_relay.stop()
    assert len(world.statuses(ids)) == 60


def test_redis_flushed_under_load(world: Eventful) -> None:
    with ThreadPoolExecutor(1) as background:
        loading = background.submit(load, world, 60)
        for _ in range(3):
            world.wait_for(world.checkout(), "StockReserved")
            world.flush()
        ids = loading.result()
    expected = ["failed" if n % 7 == 6 or n % 5 == 4 else "succeeded" for n in range(60)]
    assert world.statuses(ids) == expected


def test_redis_away_for_a_while(world: Eventful) -> None:
    world.redis.stop()
    try:
        ids = [world.checkout() for _ in range(3)]
    finally:
        world.redis.start()
    assert world.statuses(ids) == ["succeeded"] * 3


def test_every_event_again_and_in_reverse(world: Eventful) -> None:
    ids = load(world, 10)
    with closing(redis.Redis.from_url(world.config.environment["REDIS_URL"])) as connection:
        client: Any = connection
        for _ in range(3):
            for _, fields in reversed(client.xrange(STREAM)):
                client.xadd(STREAM, fields)
        world.statuses(ids)
        for _, fields in reversed(client.xrange(STREAM)):
            client.xadd(STREAM, fields)


def test_an_order_that_hangs_gives_its_stock_back_soon(world: Eventful) -> None:
    world.fault("create-order", "error_after", times=None)
    stream = world.checkout(client=777)
    assert world.statuses([stream]) == ["failed"]
    gap = """
        SELECT extract(epoch FROM released.at - failed.at)::float AS seconds
          FROM choreography_event failed JOIN choreography_event released USING (stream)
         WHERE stream = %s AND failed.type = 'OrderCreationFailed' AND released.type = 'StockReleased'"""
    assert world.rows("default", gap, stream)[0]["seconds"] < 5
    assert "choreo-order" in world.events("dead-letters", "list")
    world.participants_send("DELETE")
    world.events("dead-letters", "redrive", "--all")


def test_both_patterns_side_by_side(world: Eventful) -> None:
    output = world.folder / "compared.json"
    world.worker.restart()
    try:
        words = ("--users", "5", "--checkouts", "20", "--rate", "0", "--failing", "20")
        table = world.run("manage.py", "compare", *words, "--output", str(output))
    finally:
        world.worker.stop()
    found = json.loads(output.read_text())
    for pattern in ("orchestrated", "choreographed"):
        assert pattern in table
        assert (found[pattern]["ended"], found[pattern]["compensations"]) == (20, 4)
        assert found[pattern]["success rate %"] == 80
        assert 0 < found[pattern]["stock released, slowest s"] < 5


@pytest.mark.parametrize("process", ["relay", "consumers"])
def test_processes_tell_their_metrics(world: Eventful, process: str) -> None:
    world.statuses([world.checkout()])
    port = {"relay": "PORT_RELAY_METRICS", "consumers": "PORT_CONSUMER_METRICS"}[process]
    text = world.http.request("GET", f"http://127.0.0.1:{world.config.ports[port]}/metrics").data.decode()
    expected = {
        "relay": ["events_published_total{", "event_outbox_waiting ", "event_consumer_lag{"],
        "consumers": ["events_consumed_total{", "event_latency_seconds_bucket{"],
    }
    for name in expected[process]:
        assert name in text
