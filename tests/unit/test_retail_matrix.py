"""Every failure at every point of every retail saga, and pairs of failures."""

from collections.abc import Mapping
from typing import Any

import pytest

from sagas.definition import registry
from sagas.state import Status
from sagas.testing import crash_matrix, given
from tests.business import INPUTS

ANSWERS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "store_opening_check": {
        "check-stock": {"items": [{"product_id": 456, "available": 3}]},
        "employee-schedule": {"shifts": [{"name": "Ann"}]},
    },
}


def latest(saga_type: str) -> Any:
    """The newest version of a retail saga."""
    return registry.latest(saga_type)


def test_every_retail_saga_is_searched() -> None:
    business = {d.type for d in registry.by_key.values() if type(d).__module__.startswith("sagas.retail")}
    assert business == set(INPUTS)


@pytest.mark.parametrize("saga_type", INPUTS)
def test_a_retail_saga_completes_when_all_goes_well(saga_type: str) -> None:
    story = given(latest(saga_type), INPUTS[saga_type])
    for step, answer in ANSWERS.get(saga_type, {}).items():
        story.answering(step, **answer)
    story.expect().ends("completed")


@pytest.mark.parametrize("saga_type", INPUTS)
def test_no_failure_and_no_pair_of_failures_breaks_a_retail_saga(saga_type: str) -> None:
    report = crash_matrix(
        latest(saga_type), INPUTS[saga_type], answers=ANSWERS.get(saga_type), depth=2, limit=700
    )
    assert {Status.COMPLETED, Status.FAILED} <= set(report.ends), report
