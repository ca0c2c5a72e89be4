"""`display_status`: the fine-grained name of where a saga stands, derived and never stored. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from sagas.state import Status, StepStatus

UNDER_WAY = (
    StepStatus.IN_PROGRESS,
    StepStatus.WAITING,
    StepStatus.COMPENSATING,
    StepStatus.COMPENSATION_FAILED,
)


class Placed(Protocol):
    """What of a step is looked at here."""

    @property
    def name(self) -> str: ...
    @property
    def status(self) -> str: ...


def display_status(status: str, error: dict[str, Any] | None, steps: Iterable[Placed]) -> str:
    """The status and, while it is about one step, that step: `in_progress_reserve_stock`.

    Running: the step under way, else the next one. Parked, failed: the step at fault.
    """
    match status:
        case Status.PENDING:
            return "awaiting_start"
        case Status.COMPLETED | Status.COMPENSATED:
            return str(status)
        case Status.PARKED | Status.FAILED:
            step = (error or {}).get("step") or ""
        case _:
            step = current(steps, backward=status in (Status.COMPENSATING, Status.COMPENSATION_FAILED))
    return "_".join(filter(None, (str(status), step.replace("-", "_"))))


def current(steps: Iterable[Placed], *, backward: bool) -> str:
    """The step under way, or the one whose turn it is; empty if there is none."""
    known = list(steps)
    under_way = next((step.name for step in known if step.status in UNDER_WAY), "")
    if under_way or backward:
        return under_way or next((s.name for s in reversed(known) if s.status == StepStatus.COMPLETED), "")
    return next((step.name for step in known if step.status == StepStatus.PENDING), "")
