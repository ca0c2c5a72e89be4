"""Messages are doorbells: lost, doubled, late or out of order, they change nothing but the time it takes."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from tests.acceptance.world import Fault, World, basket

CLIENTS_BOUND = 2.0
COPIES = 5
SALE_STEPS = 5
MODES = ("brisk_sale", "brisk_sale_inline")


def flush(world: World) -> None:
    """Empty Redis: queues, what is unacknowledged, circuits."""
    with redis.Redis.from_url(world.environment["REDIS_URL"]) as client:
        client.flushall()


def ring(world: World, saga: tuple[str, str], task: str, positions: range, epoch: int) -> None:
    """Publish the messages of these steps of a saga (type and id) five times, all at once."""
    saga_type, saga_id = saga
    queue = {"sagas.step": "forward", "sagas.compensate": "compensation"}[task]

    def publish(position: int) -> None:
        world.send(task, saga_id, position, epoch, saga_type, 1, queue=queue)

    with ThreadPoolExecutor(COPIES) as pool:
        for sent in [pool.submit(publish, position) for position in positions for _ in range(COPIES)]:
            sent.result()


def test_redis_flushed_in_mid_saga(world: World) -> None:
    held = Fault("create-transaction", "hang_after", seconds=0.8)
    sales = [world.sale(held, saga_type=mode) for mode in MODES * 2]
    waiting = [world.sale(saga_type=mode) for mode in MODES * 2]
    for sale in sales[:2]:
        world.wait_struck(sale, "create-transaction")
    flush(world)
    assert {sale["status"] for sale in world.ended_all([*sales, *waiting])} == {"completed"}


def test_redis_flushed_while_sales_are_undone(world: World) -> None:
    faults = Fault("confirm-stock", "refuse"), Fault("cancel-transaction", "hang_after", seconds=0.8)
    sales = [world.sale(*faults, saga_type=mode) for mode in MODES * 2]
    for sale in sales[:2]:
        world.wait_struck(sale, "cancel-transaction")
    flush(world)
    assert {sale["status"] for sale in world.ended_all(sales)} == {"compensated"}


@pytest.mark.parametrize("mode", MODES)
def test_every_message_delivered_five_times(world: World, mode: str) -> None:
    sale = world.sale(Fault("reserve-stock", "hang_after", seconds=0.5), saga_type=mode)
    ring(world, (mode, sale), "sagas.step", range(SALE_STEPS), 0)
    ended = world.ended(sale)
    assert ended["status"] == "completed"
    ring(world, (mode, sale), "sagas.step", range(SALE_STEPS), 0)
    world.ended(world.sale())  # queued behind them: they have been taken by now
    claimed = world.kinds(sale).count("step_claimed")
    assert claimed == SALE_STEPS, world.history(sale)


@pytest.mark.parametrize("mode", MODES)
def test_every_message_of_an_undo_delivered_five_times(world: World, mode: str) -> None:
    refused = Fault("confirm-transaction", "refuse")
    sale = world.sale(refused, Fault("cancel-transaction", "hang_after", seconds=0.5), saga_type=mode)
    world.wait_struck(sale, "cancel-transaction")
    ring(world, (mode, sale), "sagas.compensate", range(SALE_STEPS), 1)
    ring(world, (mode, sale), "sagas.step", range(SALE_STEPS), 0)
    assert world.ended(sale)["status"] == "compensated"
    assert world.kinds(sale).count("compensation_claimed") == SALE_STEPS - 1, world.history(sale)


def test_the_broker_is_down_at_the_start(world: World) -> None:
    world.redis.stop()
    sales = []
    for mode in MODES:
        began = time.monotonic()
        answer = world.operator.start(mode, basket())
        took = time.monotonic() - began
        assert answer.status == 202, answer.document
        assert took < CLIENTS_BOUND
        assert world.operator.saga(answer.saga["id"])["status"] in ("pending", "in_progress")
        sales.append(answer.saga["id"])
    world.redis.start()
    assert {sale["status"] for sale in world.ended_all(sales)} == {"completed"}
