"""The fine-grained names of a checkout, derived from the saga's status and its steps."""

from dataclasses import dataclass

import pytest

from sagas.api.display import display_status
from sagas.retail.checkout import CheckoutSaga

STEPS = ("verify-stock", "fetch-product", "reserve-stock", "create-order")


@dataclass(frozen=True)
class Row:
    """A step as far as the display looks at it."""

    name: str
    status: str


def shown(status: str, *steps: str, error: str = "") -> str:
    """The display of a checkout whose first steps have these statuses; the rest is pending."""
    given = [*steps, *("pending",) * (len(STEPS) - len(steps))]
    rows = [Row(name, step) for name, step in zip(STEPS, given, strict=True)]
    return display_status(status, {"step": error} if error else None, rows, CheckoutSaga.display)


@pytest.mark.parametrize(
    ("status", "steps", "expected"),
    [
        ("pending", (), "awaiting_start"),
        ("in_progress", ("in_progress",), "checking_stock"),
        ("in_progress", ("completed",), "stock_checked"),
        ("in_progress", ("completed", "in_progress"), "stock_checked"),
        ("in_progress", ("completed", "completed"), "stock_checked"),
        ("in_progress", ("completed", "completed", "in_progress"), "reserving_stock"),
        ("in_progress", ("completed",) * 3, "stock_reserved"),
        ("in_progress", (*("completed",) * 3, "in_progress"), "creating_order"),
        ("completed", ("completed",) * 4, "finished"),
        ("compensated", ("completed", "completed", "compensated", "failed"), "cancelled"),
    ],
)
def test_names_on_the_way_and_at_the_end(status: str, steps: tuple[str, ...], expected: str) -> None:
    assert shown(status, *steps) == expected


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("verify-stock", "failed_insufficient_stock"),
        ("fetch-product", "failed_fetch_product"),
        ("reserve-stock", "failed_stock_reservation"),
    ],
)
def test_names_of_failures_with_nothing_to_undo(step: str, expected: str) -> None:
    done = ("completed",) * STEPS.index(step)
    assert shown("failed", *done, "failed", error=step) == expected


def test_an_order_that_failed_is_named_until_the_undoing_begins() -> None:
    done = ("completed", "completed")
    assert shown("compensating", *done, "completed", "failed", error="create-order") == (
        "failed_order_creation"
    )
    for status in ("compensating", "compensated"):
        assert shown("compensating", *done, status, "failed", error="create-order") == "compensating"


def test_what_the_checkout_does_not_name_has_the_general_name() -> None:
    done = ("completed",) * 3
    assert shown("parked", *done, "pending", error="create-order") == "parked_create_order"
    assert shown("compensation_failed", *done, "failed") == "compensation_failed_reserve_stock"
