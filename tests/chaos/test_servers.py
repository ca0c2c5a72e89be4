"""PostgreSQL and Redis taken away under load, messages lost and doubled on their way."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
import redis
import urllib3

from stack.waiting import wait_until
from tests.acceptance.world import Fault, World, basket

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SALE = "patient_sale"
WITHIN = 120.0
LOAD = 40
RESTARTS = 20
CONSUMES_WITHIN = 30.0
QUEUES = ("forward", "compensation")
# For good: a fault that counts is spent by a call whose transaction is then terminated.
REFUSED = Fault("confirm-transaction", "refuse", code="closed", times=None)


@contextmanager
def meanwhile(act: Callable[[threading.Event], None]) -> Iterator[None]:
    """While the block runs, `act` runs beside it; it gets an event that is set at the end."""
    over, failures = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            act(over)
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)
    assert not failures, failures


def start_at_last(world: World, key: str) -> str:
    """Start a sale however often that takes; answers its id."""
    ids: list[str] = []

    def started() -> bool:
        try:
            answer = world.operator.start(SALE, basket(), key=key)
        except urllib3.exceptions.HTTPError:
            return False
        if answer.status not in (200, 202):
            assert answer.status >= 500, answer.document
            return False
        ids.append(str(answer.saga["id"]))
        return True

    assert wait_until(started, 60)
    return ids[0]


def some_sales(world: World, number: int = LOAD) -> dict[str, str]:
    """Sales under way, every fourth of them to be undone; and how each shall end."""
    sales: dict[str, str] = {}
    for count in range(number):
        undone = count % 4 == 0
        sale = world.sale(*([REFUSED] if undone else []), saga_type=SALE)
        sales[sale] = "compensated" if undone else "completed"
    return sales


def assert_end_as(world: World, expected: dict[str, str]) -> None:
    """All of them come to the end that is expected of them."""
    for sale in world.ended_all([*expected], within=WITHIN):
        assert sale["status"] == expected[sale["id"]], world.history(sale["id"])


def test_postgresql_restarted_under_load(world: World) -> None:
    def crash_and_restart(over: threading.Event) -> None:
        for _ in range(3):
            over.wait(0.7)
            world.postgres.stop()
            world.postgres.start()

    with meanwhile(crash_and_restart):
        sales = {start_at_last(world, f"load-{number}"): "completed" for number in range(LOAD)}
    assert len(sales) == LOAD
    assert_end_as(world, sales)


def test_backends_terminated_at_any_moment(world: World) -> None:
    asked = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE application_name IN ('worker', 'maintenance', 'participants', 'api')"""

    def terminate(over: threading.Event) -> None:
        with psycopg.connect(f"{world.postgres.url}/postgres", autocommit=True) as connection:
            while not over.wait(0.15):
                connection.execute(asked)

    sales = some_sales(world)
    with meanwhile(terminate):
        wait_until(lambda: world.moving(sales) <= LOAD // 4, 10)
    assert_end_as(world, sales)


def test_messages_lost_and_doubled(world: World) -> None:
    chance = random.Random(20)  # noqa: S311  a test, and the same every time

    def mangle(over: threading.Event) -> None:
        with redis.Redis.from_url(world.environment["REDIS_URL"]) as client:
            while not over.wait(0.002):
                queue = chance.choice(QUEUES)
                message = client.lpop(queue)
                if message is not None and chance.random() < 0.7:
                    client.rpush(queue, *[message] * chance.choice((1, 1, 5)))

    with meanwhile(mangle):
        sales = some_sales(world)
        assert_end_as(world, sales)


def test_redis_restarted_twenty_times_under_load(world: World) -> None:
    sales: dict[str, str] = {}

    def heard(since: str) -> bool:
        """Whether a sale has gone through, and a scan has come round, since then."""
        asked = "SELECT count(*) AS n FROM sagas_heartbeat WHERE name = 'recover' AND at > %s"
        return bool(world.rows("default", asked, since)[0]["n"])

    for number in range(RESTARTS):
        sales[start_at_last(world, f"before-{number}")] = "completed"
        world.redis.stop()
        sales[start_at_last(world, f"while-{number}")] = "completed"
        world.redis.start()
        since = world.rows("default", "SELECT clock_timestamp()::text AS now")[0]["now"]
        sale = start_at_last(world, f"after-{number}")
        sales[sale] = "completed"
        world.ended(sale, within=CONSUMES_WITHIN)
        assert wait_until(lambda since=since: heard(since), CONSUMES_WITHIN, pause=0.1), number  # type: ignore[misc]
    assert_end_as(world, sales)
