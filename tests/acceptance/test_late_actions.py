"""An action that arrives when its compensation has been there: it is refused, and has no effect (rule 22)."""

import signal

import pytest

from tests.acceptance.arming import FORWARD_EPOCH, armed, execute, wait_reached
from tests.acceptance.shop.crashes import name
from tests.acceptance.world import Fault, World

# The steps with an effect, by position. They leave one child of the worker to undo the rest.
ACTIONS = {
    1: ("reserve-stock", "inventory"),
    2: ("create-transaction", "transactions"),
    3: ("confirm-stock", "inventory"),
}


@pytest.mark.parametrize("sale_type", ["patient_sale", "patient_sale_inline"])
def test_an_action_that_a_slow_worker_sends_behind_its_compensation_has_no_effect(
    world: World, sale_type: str
) -> None:
    before = world.figures()
    sales = {
        position: armed(world, sale_type, "after_claim", position, victim="nobody") for position in ACTIONS
    }
    world.maintenance.signal(signal.SIGSTOP)  # no lease expires before the sales turn
    execute(world, [*sales.values()])
    wait_reached(world, *sales.values())  # each claimed its step and has sent nothing
    for sale in sales.values():
        world.operator.intervene(sale, "compensate", reason="the customer has gone")
    world.maintenance.signal(signal.SIGCONT)
    for ended in world.ended_all([*sales.values()]):
        assert ended["status"] == "compensated", world.history(ended["id"])
    assert {kept(world, *place) for place in sales.items()} == {"tombstone"}
    told = {sale: world.history(sale) for sale in sales.values()}

    for position, sale in sales.items():
        world.sabotage(sale, Fault(ACTIONS[position][0], "hang_before", seconds=0))  # to see it come
        (world.crashes / name("after_commit", sale, FORWARD_EPOCH, position)).write_text("nobody")
    world.worker.signal(signal.SIGCONT)
    wait_reached(world, *sales.values())  # each action was sent, and what became of it recorded if need be
    world.worker.signal(signal.SIGCONT)
    for position, sale in sales.items():
        world.wait_struck(sale, ACTIONS[position][0])
    assert {kept(world, *place) for place in sales.items()} == {"tombstone"}
    assert {sale: world.history(sale) for sale in sales.values()} == told
    assert world.figures() == before


def kept(world: World, position: int, sale: str) -> str:
    """What the participant keeps under the key of the sale's action."""
    step, participant = ACTIONS[position]
    asked = f"SELECT state FROM {participant}_operation WHERE key LIKE %s"  # noqa: S608 - names of ours
    (row,) = world.rows(participant, asked, f"{sale}:{step}:action:%")
    return str(row["state"])
