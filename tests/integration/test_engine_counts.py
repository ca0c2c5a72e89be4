"""What Prometheus is told of sagas that end in each way: the whole of it, and each once."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from prometheus_client import REGISTRY

from sagas import engine
from sagas.metrics import DatabaseCollector
from tests.definitions import Chain
from tests.engine import LEASE, drive, registered
from tests.scripted import FORBIDDEN, Says, Scripted, refuses

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("bells")]
STEPS = ("first", "second", "third", "last")
UNDOS = 3
COUNTED = {
    *("saga_started_total", "saga_completed_total", "saga_failed_total", "saga_failures_total"),
    *("saga_compensated_total", "saga_compensations_total", "saga_parked_total", "saga_steps_total"),
    *("saga_duration_seconds_count", "saga_step_duration_seconds_count"),
    "external_service_call_duration_seconds_count",
}


@pytest.fixture(autouse=True)
def definitions() -> Iterator[None]:
    """Code for the saga of these tests."""
    with registered(Chain):
        yield


def counted() -> Counter[str]:
    """All counters of this saga and its participant, each as `name label label`."""
    return Counter(
        {
            " ".join(
                [sample.name, *(v for k, v in sorted(sample.labels.items()) if k != "type")]
            ): sample.value
            for family in REGISTRY.collect()
            for sample in family.samples
            if sample.name in COUNTED
            and (sample.labels.get("type") == Chain.type or sample.labels.get("service") == "shop")
        }
    )


def told(happening: Mapping[str, int], *, done: int, undone: int = 0, calls: int) -> dict[str, int]:
    """What all ways to end share: what became of the steps and calls, and what is said besides."""
    found = {f"saga_step_duration_seconds_count {name}": 1 for name in STEPS[:done]}
    found |= {f"saga_steps_total completed {name}": 1 for name in STEPS[:done]}
    found |= {f"saga_steps_total compensated {name}": 1 for name in STEPS[:undone]}
    found |= {"external_service_call_duration_seconds_count shop": calls, "saga_started_total": 1}
    return found | dict(happening)


ENDS: dict[str, tuple[dict[str, Says], dict[str, int]]] = {
    "completed": (
        {},
        told({"saga_completed_total": 1, "saga_duration_seconds_count": 1}, done=4, calls=4),
    ),
    "compensated": (
        {"third": refuses("too_dear")},
        told(
            {
                "saga_failed_total too_dear third": 1,
                "saga_failures_total": 1,
                "saga_compensations_total": 1,
                "saga_compensated_total": 1,
                "saga_duration_seconds_count": 1,
                "saga_steps_total refused third": 1,
                "saga_step_duration_seconds_count third": 1,
            },
            done=2,
            undone=2,
            calls=5,
        ),
    ),
    "failed": (
        {"first": refuses("sold_out")},
        told(
            {
                "saga_failed_total sold_out first": 1,
                "saga_failures_total": 1,
                "saga_duration_seconds_count": 1,
                "saga_steps_total refused first": 1,
                "saga_step_duration_seconds_count first": 1,
            },
            done=0,
            calls=1,
        ),
    ),
    "parked": (
        {"second": FORBIDDEN},
        told({"saga_parked_total http_401": 1}, done=1, calls=2),
    ),
    "compensation_failed": (
        {"second": refuses("too_dear"), "undo-first": refuses("gone")},
        told(
            {
                "saga_failed_total too_dear second": 1,
                "saga_failures_total": 1,
                "saga_compensations_total": 1,
                "saga_parked_total gone": 1,
                "saga_steps_total refused second": 1,
                "saga_step_duration_seconds_count second": 1,
            },
            done=1,
            calls=3,
        ),
    ),
}


@pytest.mark.parametrize("status", ENDS)
def test_an_end_is_counted_once_with_all_that_led_to_it(scripted: Scripted, status: str) -> None:
    says, expected = ENDS[status]
    for operation, what in says.items():
        scripted.will(operation, what)
    before = counted()
    assert drive(engine.start(Chain.type, {}).state.id).status == status
    assert counted() - before == expected


def test_a_saga_that_is_undone_on_request_is_counted_by_that_reason(scripted: Scripted) -> None:
    saga = drive(engine.start(Chain.type, {}).state.id)
    before = counted()
    engine.compensate(saga.id, actor="ann", reason="returned")
    assert drive(saga.id).status == "compensated"
    assert counted() - before == {
        "saga_failed_total compensation_requested ": 1,
        "saga_failures_total": 1,
        "saga_compensations_total": 1,
        "saga_compensated_total": 1,
        "saga_duration_seconds_count": 1,
        "external_service_call_duration_seconds_count shop": UNDOS,
        **{f"saga_steps_total compensated {name}": 1 for name in STEPS[:UNDOS]},
    }


def test_what_moves_is_counted_as_active_and_what_rests_is_not(scripted: Scripted) -> None:
    scripted.will("first", FORBIDDEN)
    drive(engine.start(Chain.type, {}).state.id)
    drive(engine.start(Chain.type, {}).state.id)
    moving = [engine.start(Chain.type, {}).state for _ in range(2)]
    engine.claim(moving[0].id, 0, 0, LEASE)
    gauges: dict[str, Any] = {gauge.name: gauge.samples for gauge in DatabaseCollector().collect()}
    assert gauges["saga_active_count"][0].value == len(moving)
    by_status = {sample.labels["status"]: sample.value for sample in gauges["saga_total"]}
    assert by_status == {"pending": 1, "in_progress": 1, "completed": 1, "parked": 1}
