"""The two sales of the demonstration, through the public API."""

from tests.acceptance.world import World, basket


def test_a_sale_succeeds(world: World) -> None:
    answer = world.operator.start("sales_saga", basket(product=456, price="29.99", quantity=2), wait=30)
    assert (answer.status, answer.saga["status"]) == (200, "completed"), answer.document
    assert answer.saga["result"]["transaction_id"] > 0
    assert [(step["status"], step["attempts"]) for step in answer.saga["steps"]] == [("completed", 1)] * 5


def test_a_sale_is_refused_for_want_of_money_and_undone(world: World) -> None:
    answer = world.operator.start("sales_saga", basket(customer=124, product=456, price="29.99"), wait=30)
    assert (answer.status, answer.saga["status"]) == (200, "compensated"), answer.document
    assert answer.saga["error"]["code"] == "insufficient_funds"
    steps = {step["name"]: step for step in answer.saga["steps"]}
    assert {name: step["status"] for name, step in steps.items()} == {
        "validate-employee": "compensated",
        "reserve-stock": "compensated",
        "create-transaction": "failed",
        "confirm-stock": "skipped",
        "confirm-transaction": "skipped",
    }
    assert steps["reserve-stock"]["compensation"]["status"] == "completed"
    assert steps["confirm-transaction"]["compensation"] is None
