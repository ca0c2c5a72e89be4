"""Every failure at every point of definitions of every shape, and random histories of them."""

from typing import Any

import pytest

from sagas.definition import SagaDefinition
from sagas.retail.sales import SalesSaga
from sagas.state import Status
from sagas.testing import Choices, World, crash_matrix, random_histories, world_of
from tests.definitions import CHILDREN, SHAPES

BASKET: dict[str, Any] = {
    "store_id": 1,
    "employee_id": 1,
    "customer_id": 123,
    "items": [{"product_id": 456, "quantity": 2, "price": "29.99"}],
    "payment_method": "cash",
}


@pytest.mark.parametrize("definition", SHAPES, ids=lambda shape: shape.__name__)
def test_no_failure_and_no_pair_of_failures_breaks_a_shape(definition: type[SagaDefinition]) -> None:
    report = crash_matrix(definition, children=CHILDREN, depth=2, limit=1200)
    assert {Status.COMPLETED, Status.FAILED, Status.COMPENSATED} <= set(report.ends), report


def test_no_failure_and_no_pair_of_failures_breaks_a_sale() -> None:
    report = crash_matrix(SalesSaga, BASKET, depth=2, limit=1500)
    assert report.histories == 1500


def test_ten_thousand_random_histories_keep_every_invariant() -> None:
    worlds = [world_of(shape(), children=CHILDREN) for shape in SHAPES]

    def world(number: int, choices: Choices) -> World:
        return worlds[number % len(worlds)](choices)

    report = random_histories(world, 10_000, seed=20)
    assert report.histories == 10_000
    assert {Status.COMPLETED, Status.FAILED, Status.COMPENSATED, Status.PARKED} <= set(report.ends), report
