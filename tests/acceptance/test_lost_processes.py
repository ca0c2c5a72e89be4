"""Processes killed without a word, or away for a while: the sagas end right all the same."""

import signal

import pytest

from stack.waiting import wait_until
from tests.acceptance.arming import REFUSED, armed, execute, wait_reached
from tests.acceptance.world import PATIENCE, Fault, World

HELD = 3.0
# Where a worker is when it is lost: the answer in hand, or the request sent and not applied yet.
FORWARD = (
    ("answer_received", 2, ()),
    ("request_sent", 3, (Fault("confirm-stock", "hang_before", seconds=HELD),)),
)
BACKWARD = (
    ("answer_received", 1, ()),
    ("request_sent", 2, (Fault("cancel-transaction", "hang_before", seconds=HELD),)),
)
PATIENT_SALES = ("patient_sale", "patient_sale_inline")
both_modes = pytest.mark.parametrize("sale_type", PATIENT_SALES)


def held_sales(world: World, sale_type: str) -> dict[str, str]:
    """Four sales, each with a worker's child that stands still in the midst of a call; how each shall end."""
    expected: dict[str, str] = {}
    for backward, places in ((False, FORWARD), (True, BACKWARD)):
        for point, position, faults in places:
            sale = armed(world, sale_type, point, position, backward=backward, victim="nobody")
            world.sabotage(sale, *faults)
            expected[sale] = "compensated" if backward else "completed"
    execute(world, [*expected])
    wait_reached(world, *expected)
    return expected


def assert_end_as(world: World, expected: dict[str, str]) -> None:
    """All of them come to the end that is expected of them."""
    ended = {sale["id"]: sale["status"] for sale in world.ended_all([*expected])}
    assert ended == expected, [world.history(sale) for sale in expected]


@both_modes
def test_a_worker_killed_between_request_and_record(world: World, sale_type: str) -> None:
    sales = held_sales(world, sale_type)
    world.worker.kill()
    world.worker.restart()
    assert_end_as(world, sales)
    assert all("lease_expired" in world.kinds(sale) for sale in sales)


@both_modes
def test_the_children_of_a_worker_killed_between_request_and_record(world: World, sale_type: str) -> None:
    sales = held_sales(world, sale_type)
    assert world.worker.kill_children() >= len(sales)
    assert_end_as(world, sales)
    assert not world.worker.ended()


@both_modes
def test_a_worker_that_stands_still_beyond_its_lease_and_goes_on(world: World, sale_type: str) -> None:
    sales = held_sales(world, sale_type)
    world.worker.signal(signal.SIGSTOP)
    try:
        for sale in sales:
            world.wait_for(sale, "lease_expired")
    finally:
        world.worker.signal(signal.SIGCONT)
    assert_end_as(world, sales)


def test_a_worker_that_is_asked_to_end_finishes_its_steps(world: World) -> None:
    types = ("brisk_sale", "brisk_sale_inline")
    sales = [armed(world, sale_type, "answer_received", 2, victim="nobody") for sale_type in types]
    execute(world, sales)
    wait_reached(world, *sales)
    world.worker.ask_to_end()
    world.worker.signal(signal.SIGCONT)
    world.worker.stop()
    for sale in sales:
        assert "lease_expired" not in world.kinds(sale)
        assert world.kinds(sale).count("step_completed") >= 3
    world.worker.restart()
    assert_end_as(world, dict.fromkeys(sales, "completed"))


def test_participants_away_for_a_while(world: World) -> None:
    world.participants.stop()
    sales = [world.sale(saga_type=sale_type) for sale_type in PATIENT_SALES]
    for sale in sales:
        world.wait_for(sale, "step_transient")
    world.participants.restart()
    assert_end_as(world, dict.fromkeys(sales, "completed"))


def test_participants_away_while_a_sale_is_undone(world: World) -> None:
    hold = Fault("cancel-transaction", "hang_before", seconds=HELD)
    sales = [world.sale(REFUSED, hold, saga_type=sale_type) for sale_type in PATIENT_SALES]
    for sale in sales:
        world.wait_struck(sale, "cancel-transaction")
    world.participants.kill()
    for sale in sales:
        world.wait_for(sale, "compensation_retry")
    world.participants.restart()
    assert_end_as(world, dict.fromkeys(sales, "compensated"))


def test_no_beat_and_lost_messages_only_delay(world: World) -> None:
    world.beat.stop()
    world.worker.stop()
    sales = [world.sale(), world.sale(saga_type="brisk_sale_inline")]
    world.redis.stop()
    world.redis.start()
    sung = world.canary()
    world.worker.start()  # its own scan at the start comes too early, or finds it: both are well
    assert wait_until(lambda: world.canary() > sung, PATIENCE), "nobody has had the canary sing"
    world.beat.start()
    world.worker.wait_healthy()
    assert_end_as(world, dict.fromkeys(sales, "completed"))
