"""The pure parts of the API: preferences and display names."""

from dataclasses import dataclass
from typing import Any

import pytest

from sagas.api.display import display_status
from sagas.api.preferences import Preference, preference


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", Preference(30)),
        ("wait=5", Preference(5, "wait=5")),
        ("Wait = 5", Preference(5, "wait=5")),
        ('wait="5"', Preference(5, "wait=5")),
        ("wait=600", Preference(60, "wait=60")),
        ("wait=99999999999999999999", Preference(30)),
        ("wait=0", Preference(0, "wait=0")),
        ("wait=-1", Preference(30)),
        ("wait=soon", Preference(30)),
        ("wait=²", Preference(30)),
        ("wait=1, wait=9", Preference(1, "wait=1")),
        ("respond-async", Preference(0, "respond-async")),
        ("respond-async, wait=10", Preference(10, "wait=10")),
        ("handling=lenient; x=1, wait=3; y", Preference(3, "wait=3")),
        (",,;=, wait=4", Preference(4, "wait=4")),
    ],
)
def test_prefer(header: str, expected: Preference) -> None:
    assert preference(header, default=30) == expected


@dataclass
class Placed:
    name: str
    status: str


@pytest.mark.parametrize(
    ("status", "error", "steps", "expected"),
    [
        ("pending", None, ["pending", "pending"], "awaiting_start"),
        ("in_progress", None, ["in_progress", "pending"], "in_progress_step_0"),
        ("in_progress", None, ["completed", "pending"], "in_progress_step_1"),
        ("waiting", None, ["completed", "waiting"], "waiting_step_1"),
        ("completed", None, ["completed", "completed"], "completed"),
        ("compensating", {"step": "step-1"}, ["completed", "failed"], "compensating_step_0"),
        ("compensating", {"step": "step-1"}, ["compensating", "failed"], "compensating_step_0"),
        ("compensated", {"step": "step-1"}, ["compensated", "failed"], "compensated"),
        ("compensation_failed", None, ["compensation_failed", "failed"], "compensation_failed_step_0"),
        ("parked", {"step": "step-0"}, ["in_progress", "pending"], "parked_step_0"),
        ("failed", {"step": ""}, ["skipped", "skipped"], "failed"),
        ("failed", None, [], "failed"),
    ],
)
def test_display_status(status: str, error: dict[str, Any] | None, steps: list[str], expected: str) -> None:
    placed = [Placed(f"step-{number}", each) for number, each in enumerate(steps)]
    assert display_status(status, error, placed) == expected
