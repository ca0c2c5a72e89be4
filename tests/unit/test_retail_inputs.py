"""The inputs of the retail sagas: what is taken, what is refused before anything is stored."""

import json
from copy import deepcopy
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from sagas.definition import registry
from sagas.errors import InvalidInput
from sagas.retail.inputs import MAX_ID
from tests.business import INPUTS

ITEM_TYPES = [name for name in INPUTS if "items" in INPUTS[name]]
PRICED_TYPES = ["sales_saga", "purchase_saga"]
MONEY_TYPES = [*PRICED_TYPES, "order_saga"]
IDS = [(name, field) for name, given in INPUTS.items() for field in given if field.endswith("_id")]


def parse(saga_type: str, **changes: Any) -> BaseModel:
    """The usual input of that type with changes, as it comes in by JSON."""
    given = json.loads(json.dumps(INPUTS[saga_type] | changes))
    return registry.latest(saga_type).parse(given)[0]


def wrong(saga_type: str, **changes: Any) -> set[str]:
    """The fields for which the input is refused."""
    with pytest.raises(InvalidInput) as refused:
        parse(saga_type, **changes)
    return {error["field"] for error in refused.value.errors}


def items(saga_type: str, **changes: Any) -> list[dict[str, Any]]:
    """The usual lines with a change in the first."""
    lines: list[dict[str, Any]] = deepcopy(INPUTS[saga_type]["items"])
    lines[0].update(changes)
    return lines


@pytest.mark.parametrize("saga_type", INPUTS)
def test_examples_are_valid_and_survive_storage(saga_type: str) -> None:
    definition = registry.latest(saga_type)
    examples = definition.Input.model_json_schema()["examples"]
    for given in [*examples, INPUTS[saga_type]]:
        parsed, stored = definition.parse(given)
        assert definition.parse(stored) == (parsed, stored)


@pytest.mark.parametrize("saga_type", INPUTS)
def test_unknown_fields_are_refused(saga_type: str) -> None:
    assert wrong(saga_type, note="hello") == {"note"}


@pytest.mark.parametrize("saga_type", ITEM_TYPES)
def test_unknown_fields_of_a_line_are_refused(saga_type: str) -> None:
    assert wrong(saga_type, items=items(saga_type, colour="red")) == {"items.0.colour"}


@pytest.mark.parametrize("saga_type", [name for name in ITEM_TYPES if name not in PRICED_TYPES])
def test_prices_are_not_the_clients_to_say(saga_type: str) -> None:
    assert wrong(saga_type, items=items(saga_type, price="0.01")) == {"items.0.price"}


@pytest.mark.parametrize("saga_type", INPUTS)
def test_every_field_is_needed_unless_it_has_a_default(saga_type: str) -> None:
    needed = {
        name for name, field in registry.latest(saga_type).Input.model_fields.items() if field.is_required()
    }
    with pytest.raises(InvalidInput) as refused:
        registry.latest(saga_type).parse({})
    assert {error["field"] for error in refused.value.errors} == needed
    assert needed == INPUTS[saga_type].keys() - {"currency"}


@pytest.mark.parametrize("quantity", [0, -1, 1.5, 2.0, "2", True, None, 1_000_001, 10**30])
@pytest.mark.parametrize("saga_type", ITEM_TYPES)
def test_quantities_are_positive_whole_numbers(saga_type: str, quantity: object) -> None:
    assert wrong(saga_type, items=items(saga_type, quantity=quantity)) == {"items.0.quantity"}


@pytest.mark.parametrize("number", [0, -1, 1.0, "1", True, None, MAX_ID + 1])
@pytest.mark.parametrize(("saga_type", "field"), IDS)
def test_ids_are_bounded_positive_whole_numbers(saga_type: str, field: str, number: object) -> None:
    assert wrong(saga_type, **{field: number}) == {field}


@pytest.mark.parametrize("saga_type", ITEM_TYPES)
def test_a_basket_has_at_least_one_line_and_not_too_many(saga_type: str) -> None:
    line = INPUTS[saga_type]["items"][0]
    assert wrong(saga_type, items=[]) == {"items"}
    assert wrong(saga_type, items=[line] * 201) == {"items"}
    assert wrong(saga_type, items={"0": line}) == {"items"}


@pytest.mark.parametrize("saga_type", INPUTS)
def test_depth_is_bounded_by_the_types(saga_type: str) -> None:
    deep: object = 1
    for _ in range(30):
        deep = [deep]
    for field in INPUTS[saga_type]:
        assert {name.split(".")[0] for name in wrong(saga_type, **{field: deep})} == {field}


@pytest.mark.parametrize("amount", ["59.98", 59.98])
@pytest.mark.parametrize("saga_type", MONEY_TYPES)
def test_money_comes_as_string_or_number_and_is_exact(saga_type: str, amount: object) -> None:
    parsed: Any = parse(saga_type, amount=amount)
    assert parsed.amount == Decimal("59.98")
    assert parsed.model_dump(mode="json")["amount"] == "59.98"


def test_money_is_kept_with_two_places() -> None:
    stored = parse("order_saga", amount=60).model_dump(mode="json")
    assert (stored["amount"], stored["currency"]) == ("60.00", "EUR")


@pytest.mark.parametrize(
    "amount",
    ["59.981", 59.981, "-59.98", "0", "NaN", "Infinity", "1e400", "", "a lot", True, None, [], "9" * 13],
)
@pytest.mark.parametrize("saga_type", ["purchase_saga", "order_saga"])
def test_money_that_is_none(saga_type: str, amount: object) -> None:
    assert wrong(saga_type, amount=amount) == {"amount"}


@pytest.mark.parametrize("price", ["29.991", "-29.99", "NaN", False, None, "9" * 13])
@pytest.mark.parametrize("saga_type", PRICED_TYPES)
def test_prices_that_are_none(saga_type: str, price: object) -> None:
    assert wrong(saga_type, items=items(saga_type, price=price)) == {"items.0.price"}


@pytest.mark.parametrize("saga_type", PRICED_TYPES)
def test_an_amount_that_is_not_the_sum(saga_type: str) -> None:
    with pytest.raises(InvalidInput, match="59") as refused:
        parse(saga_type, amount="59.97")
    assert "the items cost 59.98" in refused.value.errors[0]["message"]


def test_a_sale_needs_no_amount() -> None:
    sale: Any = parse("sales_saga")
    assert (sale.amount, sale.to_pay) == (None, Decimal("59.98"))


@pytest.mark.parametrize("currency", ["eur", "EURO", "", 978, None])
@pytest.mark.parametrize("saga_type", MONEY_TYPES)
def test_a_currency_is_three_capitals(saga_type: str, currency: object) -> None:
    assert wrong(saga_type, currency=currency) == {"currency"}


@pytest.mark.parametrize("method", ["", "Credit Card", "a" * 41, 1])
@pytest.mark.parametrize("saga_type", PRICED_TYPES)
def test_ways_of_paying_that_are_none(saga_type: str, method: object) -> None:
    assert wrong(saga_type, payment_method=method) == {"payment_method"}


@pytest.mark.parametrize("reason", ["x" * 501, "nul \x00", 1, None])
def test_reasons_that_are_none(reason: object) -> None:
    assert wrong("return_saga", reason=reason) == {"reason"}


@pytest.mark.parametrize("day", ["2026-02-30", "02.03.2026", "2026-03-02T10:00:00", 20260302, 1.5, None, ""])
def test_days_that_are_none(day: object) -> None:
    assert wrong("store_opening_check", date=day) == {"date"}


@pytest.mark.parametrize(
    ("products", "field"), [([], "product_ids"), ([0], "product_ids.0"), ([456] * 201, "product_ids")]
)
def test_products_that_are_none(products: list[int], field: str) -> None:
    assert wrong("store_opening_check", product_ids=products) == {field}
