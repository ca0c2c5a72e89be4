"""What an operator does to sales that failed: it counts once, and a retry does the work again."""

import pytest

from tests.acceptance.world import Fault, World, basket

both_modes = pytest.mark.parametrize("mode", ["brisk_sale", "brisk_sale_inline"])


def keys_of(world: World, saga_id: str) -> list[str]:
    """Every key that the participants keep of a saga, without the saga's id."""
    found = [
        row["key"].partition(":")[2]
        for name in ("personnel", "inventory", "transactions")
        for row in world.rows(name, f"SELECT key FROM {name}_operation WHERE saga_id = %s", saga_id)  # noqa: S608  a name of ours
    ]
    return sorted(found)


@both_modes
def test_a_retry_after_a_compensated_sale_does_the_work_again(world: World, mode: str) -> None:
    sale = world.sale(Fault("confirm-stock", "refuse", code="closed"), saga_type=mode)
    assert world.ended(sale)["status"] == "compensated"
    before = keys_of(world, sale)
    again = world.operator.intervene(sale, "retry", key="once-more", wait=20, reason="opened again")
    assert (again.status, again.saga["status"]) == (200, "completed"), world.history(sale)
    new = set(keys_of(world, sale)) - set(before)
    assert {key for key in new if not key.startswith("confirm-transaction")} == {
        "validate-employee:action:1",
        "reserve-stock:action:1",
        "create-transaction:action:1",
        "confirm-stock:action:1",
    }


@both_modes
def test_a_retry_after_a_refused_sale_does_the_work_again(world: World, mode: str) -> None:
    sale = world.sale(Fault("validate-employee", "refuse", code="on_leave"), saga_type=mode)
    ended = world.ended(sale)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "on_leave")
    again = world.operator.intervene(sale, "retry", key="back", wait=20, reason="back from leave")
    assert again.saga["status"] == "completed", world.history(sale)
    assert "validate-employee:action:1" in keys_of(world, sale)


@both_modes
def test_repeats_of_an_intervention_do_nothing(world: World, mode: str) -> None:
    sale = world.sale(Fault("confirm-stock", "refuse"), saga_type=mode)
    world.ended(sale)
    world.operator.intervene(sale, "retry", key="the-same", wait=20, reason="again")
    done, keys = world.kinds(sale), keys_of(world, sale)
    for _ in range(3):
        repeat = world.operator.intervene(sale, "retry", key="the-same", wait=20, reason="again")
        assert (repeat.status, repeat.saga["status"]) == (200, "completed")
    assert (world.kinds(sale), keys_of(world, sale)) == (done, keys)
    other = world.operator.intervene(sale, "retry", key="another", reason="again")
    assert other.status == 409, other.document


@both_modes
def test_a_completed_sale_is_undone_on_request_and_once(world: World, mode: str) -> None:
    sale = world.sale(saga_type=mode)
    assert world.ended(sale)["status"] == "completed"
    for _ in range(3):
        answer = world.operator.intervene(sale, "compensate", key="undo", wait=20, reason="returned")
        assert answer.saga["status"] == "compensated", world.history(sale)
    assert world.kinds(sale).count("saga_turned") == 1


@both_modes
def test_the_same_start_repeated_is_one_sale(world: World, mode: str) -> None:
    answers = [world.operator.start(mode, basket(), key=f"one-{mode}", wait=20) for _ in range(3)]
    assert len({answer.saga["id"] for answer in answers}) == 1
    assert {answer.saga["status"] for answer in answers} == {"completed"}
    other = world.operator.start(mode, basket(quantity=2), key=f"one-{mode}")
    assert other.status == 422, other.document


@both_modes
def test_a_compensation_that_never_succeeds_calls_a_person(world: World, mode: str) -> None:
    sale = world.sale(
        Fault("create-transaction", "refuse", code="closed"),
        Fault("release-stock", "error_before", times=None),
        saga_type=mode,
    )
    ended = world.ended(sale)
    assert ended["status"] == "compensation_failed", world.history(sale)
    assert sale in world.alerted()
    left = world.rows(
        "default",
        "SELECT detail FROM sagas_sagaevent WHERE saga_id = %s AND kind = 'compensation_failed'",
        sale,
    )
    assert left[0]["detail"]["undos_left"] == ["validate-employee", "reserve-stock"]
    world.operator.end_faults()
    mended = world.operator.intervene(sale, "retry", key="mended", wait=20, reason="inventory is back")
    assert mended.saga["status"] == "compensated", world.history(sale)
