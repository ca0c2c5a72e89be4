"""Declaring operations, reading amounts, and the shape of answers: no database."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from participants.contract.bodies import Body, Item, PricedItem, quantities, total
from participants.contract.outcomes import Outcome, Refused, error, refusal, success
from participants.contract.registry import by_operation, served
from participants.contract.service import Action, Call, Compensation, Recorded, Service


class Something(Body):
    """A request for these tests."""

    number: int


def act(body: Something, call: Call) -> Outcome:
    """Does something.

    And says more about it.
    """
    return {"number": body.number}


def undo(done: Recorded, call: Call) -> Outcome:
    """Undoes it."""
    return dict(done)


def test_an_operation_takes_model_and_summary_from_its_function() -> None:
    service = Service("shop")
    service.action("act")(act)
    service.compensation("undo", undoes="act")(undo)
    action, compensation = service.operations["act"], service.operations["undo"]
    assert isinstance(action, Action)
    assert action.body is Something
    assert action.summary == "Does something."
    assert isinstance(compensation, Compensation)
    assert compensation.undoes == "act"


@pytest.mark.parametrize("name", ["act", "operations"])
def test_a_name_can_be_taken_once(name: str) -> None:
    service = Service("shop")
    service.action("act")(act)
    with pytest.raises(TypeError, match=f"shop: the name '{name}' is taken"):
        service.query(name)(act)


def test_a_compensation_names_an_action_that_exists() -> None:
    service = Service("shop")
    service.query("ask")(act)
    for undoes in ("act", "ask"):
        with pytest.raises(TypeError, match="declare the action above it"):
            service.compensation("undo", undoes=undoes)


def test_an_operation_annotates_its_request() -> None:
    def careless(body: dict[str, object], call: Call) -> Outcome:
        return body

    with pytest.raises(TypeError, match="'act' must annotate its first parameter"):
        Service("shop").action("act")(careless)  # type: ignore[type-var]  # the mistake


def test_names_are_unique_over_all_participants() -> None:
    owners = by_operation()
    assert sum(len(service.operations) for service in served()) == len(owners)


def test_every_action_with_an_effect_to_undo_has_its_compensation() -> None:
    operations = [operation for service in served() for operation in service.operations.values()]
    undone = {operation.undoes for operation in operations if isinstance(operation, Compensation)}
    actions = {operation.name for operation in operations if isinstance(operation, Action)}
    assert actions - undone == {"record-movement"}


def test_quantities_add_up_in_the_order_in_which_rows_are_locked() -> None:
    items = [Item(product_id=7, quantity=1), Item(product_id=3, quantity=2), Item(product_id=7, quantity=4)]
    assert list(quantities(items).items()) == [(3, 2), (7, 5)]


def test_total_is_exact() -> None:
    assert total([PricedItem(product_id=456, quantity=2, price=Decimal("29.99"))]) == Decimal("59.98")


def test_a_refusal_is_a_conflict_or_unprocessable() -> None:
    assert Refused("full", "No room.").status == 409
    with pytest.raises(ValueError, match="not 404"):
        Refused("gone", "Not here.", 404)


def test_answers_carry_money_and_times_as_text() -> None:
    answer = success({"amount": Decimal("5"), "at": datetime(2026, 1, 2, tzinfo=UTC), "name": "é"}, 201)
    assert answer.status == 201
    assert json.loads(answer.body)["data"] == {
        "amount": "5.00",
        "at": "2026-01-02T00:00:00+00:00",
        "name": "é",
    }


def test_shapes_of_refusal_and_error() -> None:
    refused = refusal(Refused("full", "No room.", 422))
    assert (refused.status, json.loads(refused.body)) == (
        422,
        {"status": "failed", "code": "full", "reason": "No room."},
    )
    busy = error(503, "busy", "Later.", Retry_After="1")
    assert json.loads(busy.body)["status"] == "error"
    assert busy.headers == {"Retry-After": "1"}
