"""A worker, or one child of it, killed at every point of every step, forward and backward, in both modes."""

from itertools import product

import pytest

from stack.waiting import wait_until
from tests.acceptance.arming import armed, execute
from tests.acceptance.shop.crashes import POINTS, RECOVERY, name
from tests.acceptance.world import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
STEPS = 5
UNDOS = 4
WITHIN = 120.0
MODES = ("patient_sale", "patient_sale_inline")
# Inline, the record of a step is the claim of the next, so some of the points are one.
DEATHS = [
    *(("patient_sale", point) for point in POINTS),
    *(("patient_sale_inline", point) for point in POINTS if point not in ("before_claim", "after_commit")),
]


def assert_end_as(world: World, status: str, sales: list[str]) -> None:
    """All come to that end, and every crash has happened."""
    for sale in world.ended_all(sales, within=WITHIN):
        assert sale["status"] == status, world.history(sale["id"])
    assert not [path.name for path in world.crashes.iterdir()]


def armed_everywhere(world: World, positions: int, *, backward: bool = False) -> list[str]:
    """A sale for every mode, point and position, in which a child of the worker dies there."""
    everywhere = product(MODES, POINTS, range(positions))
    return [armed(world, *place, backward=backward) for place in everywhere]


def test_a_child_killed_at_every_point_of_every_step(world: World) -> None:
    sales = armed_everywhere(world, STEPS)
    execute(world, sales)
    assert_end_as(world, "completed", sales)


def test_a_child_killed_at_every_point_of_every_compensation(world: World) -> None:
    sales = armed_everywhere(world, UNDOS, backward=True)
    execute(world, sales)
    assert_end_as(world, "compensated", sales)


@pytest.mark.parametrize("backward", [False, True])
def test_the_whole_worker_killed_at_every_point(world: World, backward: bool) -> None:
    sales = [armed(world, *death, 2, backward=backward, victim="worker") for death in DEATHS]
    for done, sale in enumerate(sales, 1):  # one by one: killed for one, a worker cannot come to another's
        execute(world, [sale])
        assert wait_until(world.worker.ended, WITHIN), world.history(sale)
        assert len([*world.crashes.iterdir()]) == len(sales) - done, "the worker has ended by itself"
        world.worker.start()
    world.worker.wait_healthy()
    assert_end_as(world, "compensated" if backward else "completed", sales)


def test_the_recovery_is_killed_as_well(world: World) -> None:
    sales = [armed(world, mode, "after_claim", position) for mode in MODES for position in range(STEPS)]
    for sale in sales:
        (world.crashes / name(RECOVERY, sale, 0, 0)).write_text("child")
    execute(world, sales)
    assert_end_as(world, "completed", sales)


def test_two_beats_do_no_harm(world: World) -> None:
    second = world.second_beat()
    second.start()
    try:
        sales = [armed(world, mode, "answer_received", place) for mode in MODES for place in range(STEPS)]
        execute(world, sales)
        assert_end_as(world, "completed", sales)
        assert not second.ended()
    finally:
        second.stop()
