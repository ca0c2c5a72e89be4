"""The demo shows each sale as a table: what was done, how often, how long, and what was undone."""

from typing import Any

import pytest
from rich.console import Console

from stack import demo

BEGAN, ENDED = "2026-11-21T10:00:00.000000Z", "2026-11-21T10:00:00.012000Z"


def step(name: str, status: str, **changed: Any) -> dict[str, Any]:
    fields = {"attempts": 1, "error": None, "started_at": BEGAN, "finished_at": ENDED, "compensation": None}
    return {"name": name, "status": status, **fields, **changed}


def compensation(name: str, status: str) -> dict[str, Any]:
    return {"name": name, "status": status, "attempts": 1, "started_at": BEGAN, "finished_at": ENDED}


def test_a_step_that_was_undone() -> None:
    undone = step("reserve-stock", "compensated", compensation=compensation("release-stock", "completed"))
    assert demo.row(undone) == (
        "reserve-stock",
        "[green]done[/]",
        "1",
        "12",
        "[yellow]release-stock[/], 12 ms",
    )


def test_a_compensation_that_did_not_end_well_shows_its_status() -> None:
    stuck = compensation("release-stock", "compensation_failed")
    assert demo.undone(stuck) == "[yellow]release-stock[/], compensation_failed"


def test_a_compensation_that_was_not_needed_is_not_shown() -> None:
    idle = {**compensation("release-stock", "pending"), "attempts": 0}
    assert demo.undone(idle) == ""
    assert demo.undone(None) == ""


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (step("a", "completed"), "[green]done[/]"),
        (step("a", "failed", error={"code": "insufficient_funds"}), "[red]refused[/]"),
        (step("a", "pending", attempts=0, started_at=None, finished_at=None), "[dim]not begun[/]"),
        (step("a", "skipped"), "skipped"),
        (step("a", "in_progress"), "in_progress"),
    ],
)
def test_outcomes(given: dict[str, Any], shown: str) -> None:
    assert demo.outcome(given) == shown


def test_the_end_says_why() -> None:
    saga = {
        "id": "1",
        "status": "compensated",
        "created_at": BEGAN,
        "started_at": BEGAN,
        "finished_at": ENDED,
        "error": {"step": "create-transaction", "code": "insufficient_funds", "reason": "has 5.00 [EUR]"},
        "result": None,
    }
    console = Console(width=200)
    with console.capture() as captured:
        console.print(demo.ending(saga))
    assert "compensated in 12 ms, because create-transaction said: has 5.00 [EUR]" in captured.get()


def test_a_moment_that_is_missing_is_a_dash() -> None:
    assert demo.milliseconds(BEGAN, None) == "-"
