"""A worker, or one child of it, killed at every point of every step, forward and backward."""

import pytest

from stack.waiting import wait_until
from tests.acceptance.shop.crashes import POINTS, RECOVERY, name
from tests.acceptance.world import Fault, World, basket

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
STEPS = 5
UNDOS = 4
WITHIN = 120.0
SALE = "patient_sale"
REFUSED = Fault("confirm-transaction", "refuse", code="closed")
FORWARD_EPOCH, BACKWARD_EPOCH = 1, 2  # `execute` begins the first, the turn the second


def armed(world: World, point: str, position: int, *, backward: bool = False, victim: str = "child") -> str:
    """A sale in which a worker dies at that point; answers its id, not executed yet."""
    answer = world.operator.start(SALE, basket(), execute=False)
    saga_id = str(answer.saga["id"])
    if backward:
        world.sabotage(saga_id, REFUSED)
    epoch = BACKWARD_EPOCH if backward else FORWARD_EPOCH
    (world.crashes / name(point, saga_id, epoch, position)).write_text(victim)
    return saga_id


def execute(world: World, sales: list[str]) -> None:
    """Let them all run, at once."""
    for sale in sales:
        world.operator.intervene(sale, "execute")


def assert_end_as(world: World, status: str, sales: list[str]) -> None:
    """All come to that end, and every crash has happened."""
    for sale in world.ended_all(sales, within=WITHIN):
        assert sale["status"] == status, world.history(sale["id"])
    assert not [path.name for path in world.crashes.iterdir()]


def test_a_child_killed_at_every_point_of_every_step(world: World) -> None:
    sales = [armed(world, point, position) for point in POINTS for position in range(STEPS)]
    execute(world, sales)
    assert_end_as(world, "completed", sales)


def test_a_child_killed_at_every_point_of_every_compensation(world: World) -> None:
    sales = [armed(world, point, position, backward=True) for point in POINTS for position in range(UNDOS)]
    execute(world, sales)
    assert_end_as(world, "compensated", sales)


@pytest.mark.parametrize("backward", [False, True])
def test_the_whole_worker_killed_at_every_point(world: World, backward: bool) -> None:
    sales = [armed(world, point, 2, backward=backward, victim="worker") for point in POINTS]
    for sale in sales:  # one by one: a worker killed for one sale cannot come to another's point
        execute(world, [sale])
        assert wait_until(world.worker.ended, WITHIN), world.history(sale)
        world.worker.start()
    world.worker.wait_healthy()
    assert_end_as(world, "compensated" if backward else "completed", sales)


def test_the_recovery_is_killed_as_well(world: World) -> None:
    sales = [armed(world, "after_claim", position) for position in range(STEPS)]
    for sale in sales:
        (world.crashes / name(RECOVERY, sale, 0, 0)).write_text("child")
    execute(world, sales)
    assert_end_as(world, "completed", sales)


def test_two_beats_do_no_harm(world: World) -> None:
    second = world.second_beat()
    second.start()
    try:
        forward = [armed(world, "answer_received", position) for position in range(STEPS)]
        execute(world, forward)
        assert_end_as(world, "completed", forward)
        assert not second.ended()
    finally:
        second.stop()
