"""`display_status`: the fine-grained name of where a saga stands, derived and never stored. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from sagas.state import Status, StepStatus

UNDER_WAY = (
    StepStatus.IN_PROGRESS,
    StepStatus.WAITING,
    StepStatus.COMPENSATING,
    StepStatus.COMPENSATION_FAILED,
)
UNDOING = (*UNDER_WAY[2:], StepStatus.COMPENSATED)
NO_NAMES: Mapping[str, str] = MappingProxyType({})


class Placed(Protocol):
    """What of a step is looked at here."""

    @property
    def name(self) -> str: ...
    @property
    def status(self) -> str: ...


def display_status(
    status: str, error: dict[str, Any] | None, steps: Iterable[Placed], names: Mapping[str, str] = NO_NAMES
) -> str:
    """The status and, while it is about one step, that step: `in_progress_reserve_stock`.

    Running: the step under way, else the next one. Parked, failed: the step at fault. A definition
    may have `names` of its own, which go first: by status, or by step and its status, such as
    `reserve-stock in_progress`; a step has failed when the saga has, or has turned and not yet
    begun to undo.
    """
    known = list(steps)
    own = names.get(place(status, error, known)) or names.get(status)
    return own or generic(status, error, known)


def place(status: str, error: dict[str, Any] | None, steps: list[Placed]) -> str:
    """A step and its status, as `names` have it; empty if no step stands for the saga."""
    turned = status == Status.COMPENSATING and not any(step.status in UNDOING for step in steps)
    if status == Status.FAILED or turned:
        return f"{(error or {}).get('step')} failed"
    name = current(steps, backward=False) if status == Status.IN_PROGRESS else ""
    return next((f"{step.name} {step.status}" for step in steps if step.name == name), "")


def generic(status: str, error: dict[str, Any] | None, steps: list[Placed]) -> str:
    """The name of a saga whose definition has none for it."""
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
