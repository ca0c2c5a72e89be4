"""PostgreSQL and Redis taken away under load, messages lost and doubled on their way."""

import os
import random
import signal
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
MODES = ("patient_sale", "patient_sale_inline")
WITHIN = 120.0
LOAD = 40
RESTARTS = 20
CONSUMES_WITHIN = 30.0
READY_WITHIN = 30.0
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


def mode(number: int) -> str:
    """The type of the sale of that number: the modes in turn."""
    return MODES[number % len(MODES)]


def start_at_last(world: World, number: int, when: str = "load") -> str:
    """Start the sale of that number, of the modes in turn, however often that takes; answers its id."""
    ids: list[str] = []

    def started() -> bool:
        try:
            answer = world.operator.start(mode(number), basket(), key=f"{when}-{number}")
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
    """Sales under way, of both modes, a quarter of them to be undone; and how each shall end."""
    sales: dict[str, str] = {}
    for count in range(number):
        undone = count % 8 < 2
        sale = world.sale(*([REFUSED] if undone else []), saga_type=mode(count))
        sales[sale] = "compensated" if undone else "completed"
    return sales


def assert_end_as(world: World, expected: dict[str, str]) -> None:
    """All of them come to the end that is expected of them."""
    for sale in world.ended_all([*expected], within=WITHIN):
        assert sale["status"] == expected[sale["id"]], world.history(sale["id"])


def test_postgresql_killed_under_load(world: World) -> None:
    def kill_and_restart(over: threading.Event) -> None:
        for _ in range(3):
            world.postgres.stop()  # at once, as it ends throw-away servers
            world.postgres.start(durable=True)
            over.wait(0.7)

    with meanwhile(kill_and_restart):
        sales = {start_at_last(world, number): "completed" for number in range(LOAD)}
    assert world.rows("default", "SHOW fsync") == [{"fsync": "on"}]
    assert len(sales) == LOAD
    assert_end_as(world, sales)


def test_postgresql_away_for_longer_than_any_lease(world: World) -> None:
    held = [Fault("create-transaction", "hang_after", seconds=0.8), Fault("confirm-stock", "hang_before")]
    sales = {world.sale(fault, saga_type=sale_type): fault for fault in held for sale_type in MODES}
    for sale, fault in sales.items():
        world.wait_struck(sale, fault.operation)
    waiting = [world.sale(saga_type=sale_type) for sale_type in MODES]
    processes = {process.name: process.pid for process in world.everything}
    children = world.worker.children()
    world.postgres.stop()
    for _ in range(
        2
    ):  # each is answered when the wait for a connection is over: together longer than a lease
        refused = world.operator.start(MODES[0], basket())
        assert (refused.status, refused.headers["Retry-After"]) == (503, "5"), refused.document
    world.postgres.start()
    ended = world.ended_all([*sales, *waiting], within=READY_WITHIN)
    assert [sale["status"] for sale in ended] == ["completed"] * 6, [world.history(s["id"]) for s in ended]
    assert world.operator.start(MODES[0], basket(), wait=20).saga["status"] == "completed"
    assert {process.name: process.pid for process in world.everything if not process.ended()} == processes
    assert world.worker.children() == children


def test_redis_stands_still_for_a_while(world: World) -> None:
    before = [world.sale(saga_type=sale_type) for sale_type in MODES]
    pid = world.redis.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        while_still = [world.sale(saga_type=sale_type) for sale_type in MODES]
        assert world.moving(while_still) == len(MODES)
    finally:
        os.kill(pid, signal.SIGCONT)
    ended = world.ended_all([*before, *while_still], within=CONSUMES_WITHIN)
    assert {sale["status"] for sale in ended} == {"completed"}
    assert not world.worker.ended()


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
        """Take each message out once: one in three is lost, of the others one in three comes five times."""
        known: set[bytes] = set()
        with redis.Redis.from_url(world.environment["REDIS_URL"]) as client:
            while not over.wait(0.002):
                queue = chance.choice(QUEUES)
                message = client.lpop(queue)
                if message is None:
                    continue
                if message in known:
                    client.rpush(queue, message)
                elif chance.random() < 0.7:
                    client.rpush(queue, *[message] * chance.choice((1, 1, 5)))
                known.add(message)

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
        sales[start_at_last(world, number, "before")] = "completed"
        world.redis.stop()
        sales[start_at_last(world, number, "while")] = "completed"
        world.redis.start()
        since = world.rows("default", "SELECT clock_timestamp()::text AS now")[0]["now"]
        sale = start_at_last(world, number, "after")
        sales[sale] = "completed"
        world.ended(sale, within=CONSUMES_WITHIN)
        assert wait_until(lambda since=since: heard(since), CONSUMES_WITHIN, pause=0.1), number  # type: ignore[misc]  # a default binds it
    assert_end_as(world, sales)
