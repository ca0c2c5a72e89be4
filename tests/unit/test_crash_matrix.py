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


# Inline fewer histories are enough: what differs is who claims the next step, not what is decided.
HISTORIES = {"chain": 1200, "inline": 600}
OF_A_SALE = {"chain": 1500, "inline": 750}


@pytest.mark.parametrize("definition", SHAPES, ids=lambda shape: shape.__name__)
def test_no_failure_and_no_pair_of_failures_breaks_a_shape(
    definition: type[SagaDefinition], mode: str
) -> None:
    report = crash_matrix(definition, children=CHILDREN, depth=2, limit=HISTORIES[mode])
    assert {Status.COMPLETED, Status.FAILED, Status.COMPENSATED} <= set(report.ends), report


def test_no_failure_and_no_pair_of_failures_breaks_a_sale(mode: str) -> None:
    report = crash_matrix(SalesSaga, BASKET, depth=2, limit=OF_A_SALE[mode])
    assert report.histories == OF_A_SALE[mode]


def test_ten_thousand_random_histories_keep_every_invariant(mode: str) -> None:
    worlds = [world_of(shape(), children=CHILDREN) for shape in SHAPES]

    def world(number: int, choices: Choices) -> World:
        return worlds[number % len(worlds)](choices)

    half = 5_000
    report = random_histories(world, half, seed=[*HISTORIES].index(mode))
    assert report.histories == half
    assert {Status.COMPLETED, Status.FAILED, Status.COMPENSATED, Status.PARKED} <= set(report.ends), report
