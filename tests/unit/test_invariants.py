"""The judgement of a saga's audit finds each kind of wrong history."""

from typing import Any

import pytest

from tests.invariants import (
    Saga,
    attempts_hold,
    epochs_hold,
    has_ended,
    nothing_in_flight_when_undone,
    undone_in_reverse,
)

CHECKS = (undone_in_reverse, nothing_in_flight_when_undone, epochs_hold, attempts_hold)
FORWARD = ("step_claimed a 0", "step_completed a 0", "step_claimed b 0", "step_completed b 0")
BACKWARD = ("compensation_claimed b 1", "step_compensated b 1", "compensation_claimed a 1")
RIGHT = (*FORWARD, "saga_turned - 1", *BACKWARD, "step_compensated a 1")


def saga(*history: str, status: str = "compensated") -> Saga:
    """A saga with that audit: kind, step, epoch."""
    events: list[dict[str, Any]] = []
    for line in history:
        kind, step, epoch = line.split()
        events.append({"kind": kind, "step": step, "epoch": int(epoch), "attempt": 1})
    steps = [{"name": name, "sequence": number} for number, name in enumerate("ab", 1)]
    return Saga({"id": "x", "type": "t", "status": status, "epoch": events[-1]["epoch"]}, steps, events)


@pytest.mark.parametrize("check", CHECKS)
def test_a_right_history_is_accepted(check: Any) -> None:
    assert list(check(saga(*RIGHT))) == []


@pytest.mark.parametrize(
    ("check", "history"),
    [
        (undone_in_reverse, (*FORWARD, "step_compensated a 1", "step_compensated b 1")),
        (nothing_in_flight_when_undone, (*FORWARD[:3], "saga_turned - 1", "compensation_claimed a 1")),
        (epochs_hold, (*FORWARD, "saga_turned - 1", "step_claimed b 0")),
        (epochs_hold, (*RIGHT, "step_claimed a 1")),
        (attempts_hold, (*FORWARD, "step_compensated b 1")),
        (attempts_hold, (*RIGHT, "step_compensated a 1")),
    ],
)
def test_a_wrong_history_is_found(check: Any, history: tuple[str, ...]) -> None:
    assert list(check(saga(*history)))


def test_a_saga_that_is_parked_without_an_alert_is_found() -> None:
    parked = saga("saga_parked a 0", status="parked")
    assert list(has_ended(parked, {"x"})) == []
    assert list(has_ended(parked, set()))
    assert list(has_ended(saga(*FORWARD, status="in_progress"), set()))
