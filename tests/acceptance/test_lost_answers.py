"""Answers that are lost after the effect was applied, at every step and on every way back.

Rules 8 to 12: the effect is undone, although the engine never saw a success.
"""

import pytest

from tests.acceptance.world import Fault, World

STEPS = (
    "validate-employee",
    "reserve-stock",
    "create-transaction",
    "confirm-stock",
    "confirm-transaction",
)
UNDOS = ("invalidate-session", "release-stock", "cancel-transaction", "reverse-stock-confirmation")
LOSSES = ("reset_after", "error_after", "cut", "hang_after")
ATTEMPTS = 3
both_modes = pytest.mark.parametrize("sale_type", ["brisk_sale", "brisk_sale_inline"])


@both_modes
@pytest.mark.parametrize("kind", LOSSES)
def test_an_answer_lost_every_time_has_the_effect_undone(world: World, kind: str, sale_type: str) -> None:
    sales = {
        step: world.sale(Fault(step, kind, times=ATTEMPTS, seconds=2), saga_type=sale_type) for step in STEPS
    }
    for step, sale in zip(sales, world.ended_all([*sales.values()]), strict=True):
        assert sale["status"] == "compensated", world.history(sale["id"])
        assert (sale["error"]["step"], sale["error"]["code"]) == (step, "outcome_unknown")
        steps = {known["name"]: known for known in sale["steps"]}
        assert steps[step]["attempts"] == ATTEMPTS
        expected = "failed" if step == "confirm-transaction" else "compensated"
        assert steps[step]["status"] == expected


@both_modes
@pytest.mark.parametrize("kind", LOSSES)
def test_an_answer_lost_once_is_replayed(world: World, kind: str, sale_type: str) -> None:
    sales = [world.sale(Fault(step, kind, seconds=2), saga_type=sale_type) for step in STEPS]
    for step, sale in zip(STEPS, world.ended_all(sales), strict=True):
        assert sale["status"] == "completed", world.history(sale["id"])
        attempts = {known["name"]: known["attempts"] for known in sale["steps"]}
        assert attempts == {name: 2 if name == step else 1 for name in STEPS}


@both_modes
@pytest.mark.parametrize("kind", ["reset_after", "error_after"])
def test_the_answer_of_an_undo_lost_is_replayed_too(world: World, kind: str, sale_type: str) -> None:
    refusal = Fault("confirm-transaction", "refuse", code="closed")
    sales = [world.sale(refusal, Fault(undo, kind, times=2), saga_type=sale_type) for undo in UNDOS]
    for sale in world.ended_all(sales):
        assert (sale["status"], sale["error"]["code"]) == ("compensated", "closed")


def test_the_retail_sale_with_its_own_patience_undoes_what_it_never_saw_done(world: World) -> None:
    faults = [Fault(step, "reset_after", times=ATTEMPTS) for step in STEPS]
    sales = [world.sale(fault, saga_type="sales_saga") for fault in faults]
    assert {sale["status"] for sale in world.ended_all(sales)} == {"compensated"}
