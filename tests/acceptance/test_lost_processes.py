"""Processes killed without a word, or away for a while: the sagas end right all the same."""

import signal

import pytest

from tests.acceptance.world import Fault, World

HELD = 3.0
# Where a worker is when it dies: the request sent and applied, or sent and not applied yet.
HELD_FORWARD = (
    Fault("create-transaction", "hang_after", seconds=HELD),
    Fault("confirm-stock", "hang_before", seconds=HELD),
)
HELD_BACKWARD = (
    Fault("release-stock", "hang_after", seconds=HELD),
    Fault("cancel-transaction", "hang_before", seconds=HELD),
)
REFUSED = Fault("confirm-transaction", "refuse", code="closed")
both_modes = pytest.mark.parametrize("sale_type", ["patient_sale", "patient_sale_inline"])


def held_sales(world: World, sale_type: str) -> dict[str, str]:
    """Four sales, each with a worker child in the midst of a call; and how each shall end."""
    forward = {world.sale(fault, saga_type=sale_type): fault for fault in HELD_FORWARD}
    backward = {world.sale(REFUSED, fault, saga_type=sale_type): fault for fault in HELD_BACKWARD}
    for sale, fault in {**forward, **backward}.items():
        world.wait_struck(sale, fault.operation)
    return {**dict.fromkeys(forward, "completed"), **dict.fromkeys(backward, "compensated")}


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
    lost = [world.kinds(sale).count("lease_expired") for sale in sales]
    assert lost == [1, 1, 1, 1]


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
    sale = world.sale(Fault("create-transaction", "hang_after", seconds=0.8))
    world.wait_struck(sale, "create-transaction")
    world.worker.stop()
    assert "lease_expired" not in world.kinds(sale)
    assert world.kinds(sale).count("step_completed") >= 3
    world.worker.restart()
    assert_end_as(world, {sale: "completed"})


def test_participants_away_for_a_while(world: World) -> None:
    world.participants.stop()
    sale = world.sale(saga_type="patient_sale")
    world.wait_for(sale, "step_transient")
    world.participants.restart()
    assert_end_as(world, {sale: "completed"})


def test_participants_away_while_a_sale_is_undone(world: World) -> None:
    hold = Fault("cancel-transaction", "hang_before", seconds=HELD)
    sale = world.sale(REFUSED, hold, saga_type="patient_sale")
    world.wait_struck(sale, "cancel-transaction")
    world.participants.kill()
    world.wait_for(sale, "compensation_retry")
    world.participants.restart()
    assert_end_as(world, {sale: "compensated"})


def test_no_beat_and_lost_messages_only_delay(world: World) -> None:
    world.beat.stop()
    world.worker.stop()
    sale = world.sale()
    world.redis.stop()
    world.redis.start()
    world.worker.start()  # its own scan at the start comes too early, or finds it: both are well
    world.beat.start()
    world.worker.wait_healthy()
    assert_end_as(world, {sale: "completed"})
