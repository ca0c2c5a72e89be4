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
LOSSES = ("reset_after", "error_after", "cut", "hang_after", "drip")
ATTEMPTS = 3
MODES = ("brisk_sale", "brisk_sale_inline")


@pytest.mark.parametrize("kind", LOSSES)
def test_an_answer_lost_every_time_has_the_effect_undone(world: World, kind: str) -> None:
    lost = [(mode, step, Fault(step, kind, times=ATTEMPTS, seconds=2)) for mode in MODES for step in STEPS]
    sales = [world.sale(fault, saga_type=mode) for mode, _, fault in lost]
    for (_, step, _), sale in zip(lost, world.ended_all(sales), strict=True):
        assert sale["status"] == "compensated", world.history(sale["id"])
        assert (sale["error"]["step"], sale["error"]["code"]) == (step, "outcome_unknown")
        steps = {known["name"]: known for known in sale["steps"]}
        assert steps[step]["attempts"] == ATTEMPTS
        expected = "failed" if step == "confirm-transaction" else "compensated"
        assert steps[step]["status"] == expected


@pytest.mark.parametrize("kind", LOSSES)
def test_an_answer_lost_once_is_replayed(world: World, kind: str) -> None:
    lost = [(mode, step) for mode in MODES for step in STEPS]
    sales = [world.sale(Fault(step, kind, seconds=2), saga_type=mode) for mode, step in lost]
    for (_, step), sale in zip(lost, world.ended_all(sales), strict=True):
        assert sale["status"] == "completed", world.history(sale["id"])
        attempts = {known["name"]: known["attempts"] for known in sale["steps"]}
        assert attempts == {name: 2 if name == step else 1 for name in STEPS}


@pytest.mark.parametrize("kind", ["reset_after", "error_after"])
def test_the_answer_of_an_undo_lost_is_replayed_too(world: World, kind: str) -> None:
    refusal = Fault("confirm-transaction", "refuse", code="closed")
    lost = [(mode, Fault(undo, kind, times=2)) for mode in MODES for undo in UNDOS]
    sales = [world.sale(refusal, fault, saga_type=mode) for mode, fault in lost]
    for sale in world.ended_all(sales):
        assert (sale["status"], sale["error"]["code"]) == ("compensated", "closed")


def test_the_retail_sale_with_its_own_patience_undoes_what_it_never_saw_done(world: World) -> None:
    faults = [Fault(step, "reset_after", times=ATTEMPTS) for step in STEPS]
    sales = [world.sale(fault, saga_type="sales_saga") for fault in faults]
    assert {sale["status"] for sale in world.ended_all(sales)} == {"compensated"}
