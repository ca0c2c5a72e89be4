"""Messages are doorbells: lost, doubled, late or out of order, they change nothing but the time it takes."""

import time
from concurrent.futures import ThreadPoolExecutor

import redis

from tests.acceptance.world import Fault, World, basket

CLIENTS_BOUND = 2.0
COPIES = 5
SALE_STEPS = 5


def flush(world: World) -> None:
    """Empty Redis: queues, what is unacknowledged, circuits."""
    with redis.Redis.from_url(world.environment["REDIS_URL"]) as client:
        client.flushall()


def ring(world: World, saga_id: str, task: str, positions: range, epoch: int) -> None:
    """Publish the messages of these steps five times, all at once."""
    queue = {"sagas.step": "forward", "sagas.compensate": "compensation"}[task]

    def publish(position: int) -> None:
        world.send(task, saga_id, position, epoch, "brisk_sale", 1, queue=queue)

    with ThreadPoolExecutor(COPIES) as pool:
        for sent in [pool.submit(publish, position) for position in positions for _ in range(COPIES)]:
            sent.result()


def test_redis_flushed_in_mid_saga(world: World) -> None:
    sales = [world.sale(Fault("create-transaction", "hang_after", seconds=0.8)) for _ in range(3)]
    waiting = [world.sale() for _ in range(3)]
    world.wait_struck(sales[0], "create-transaction")
    flush(world)
    assert {sale["status"] for sale in world.ended_all([*sales, *waiting])} == {"completed"}


def test_redis_flushed_while_sales_are_undone(world: World) -> None:
    refused = Fault("confirm-stock", "refuse")
    sales = [world.sale(refused, Fault("cancel-transaction", "hang_after", seconds=0.8)) for _ in range(3)]
    world.wait_struck(sales[0], "cancel-transaction")
    flush(world)
    assert {sale["status"] for sale in world.ended_all(sales)} == {"compensated"}


def test_every_message_delivered_five_times(world: World) -> None:
    sale = world.sale(Fault("reserve-stock", "hang_after", seconds=0.5))
    ring(world, sale, "sagas.step", range(SALE_STEPS), 0)
    ended = world.ended(sale)
    assert ended["status"] == "completed"
    ring(world, sale, "sagas.step", range(SALE_STEPS), 0)
    world.ended(world.sale())  # queued behind them: they have been taken by now
    claimed = world.kinds(sale).count("step_claimed")
    assert claimed == SALE_STEPS, world.history(sale)


def test_every_message_of_an_undo_delivered_five_times(world: World) -> None:
    refused = Fault("confirm-transaction", "refuse")
    sale = world.sale(refused, Fault("cancel-transaction", "hang_after", seconds=0.5))
    world.wait_struck(sale, "cancel-transaction")
    ring(world, sale, "sagas.compensate", range(SALE_STEPS), 1)
    ring(world, sale, "sagas.step", range(SALE_STEPS), 0)
    assert world.ended(sale)["status"] == "compensated"
    assert world.kinds(sale).count("compensation_claimed") == SALE_STEPS - 1, world.history(sale)


def test_the_broker_is_down_at_the_start(world: World) -> None:
    world.redis.stop()
    began = time.monotonic()
    answer = world.operator.start("brisk_sale", basket())
    took = time.monotonic() - began
    assert answer.status == 202, answer.document
    assert took < CLIENTS_BOUND
    assert world.operator.saga(answer.saga["id"])["status"] in ("pending", "in_progress")
    world.redis.start()
    assert world.ended(answer.saga["id"])["status"] == "completed"
