"""The picture of one saga: its steps from left to right, members of a group below each other. Pure.

Each box has the step's status in words, and below it hangs its compensation, so that the picture
tells at a glance what is done, where the saga is, and what is or will be undone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sagas.admin.looks import TONES, words
from sagas.admin.timeline import PIVOT, Row
from sagas.definition import SagaDefinition
from sagas.state import Status, StepStatus

CHARACTER, PADDING, NARROWEST = 6.7, 22, 90  # of a label, in the picture's units
STEP_HEIGHT, UNDO_HEIGHT, DROP = 38, 34, 14
ACROSS, DOWN, MARGIN = 30, 18, 4
UNDER_WAY = (StepStatus.IN_PROGRESS, StepStatus.WAITING)
UNDOING = (StepStatus.COMPENSATING, StepStatus.COMPENSATION_FAILED)


@dataclass(frozen=True, slots=True)
class Box:
    """A step, or its compensation; `now` marks where the saga is."""

    x: int
    y: int
    width: int
    height: int
    name: str
    word: str
    tone: str
    now: bool
    undo: bool = False

    @property
    def middle(self) -> int:
        """Where its texts stand across."""
        return self.x + self.width // 2

    @property
    def first_line(self) -> int:
        """Where its name stands."""
        return self.y + self.height // 2 - 3

    @property
    def second_line(self) -> int:
        """Where its status stands."""
        return self.y + self.height // 2 + 12


@dataclass(frozen=True, slots=True)
class Picture:
    """All that is drawn, and in words for who cannot see it."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    arrows: tuple[str, ...]
    drops: tuple[str, ...]
    label: str


def draw(definition: SagaDefinition | None, rows: Sequence[Row], status: str, at_fault: str = "") -> Picture:
    """The picture of a saga with these rows; `at_fault` names the step it is parked at.

    Without a definition the steps stand in one line.
    """
    parked_at = at_fault if status == Status.PARKED else ""
    columns, x = [], MARGIN
    for stage in _stages(definition, rows):
        column = _column(stage, x, parked_at)
        columns.append(column)
        x += max(box.width for box in column) + ACROSS
    boxes = tuple(box for column in columns for box in column)
    steps = [[box for box in column if not box.undo] for column in columns]
    now = [f"{box.name} ({box.word})" for box in boxes if box.now]
    return Picture(
        width=x - ACROSS + MARGIN,
        height=max((box.y + box.height for box in boxes), default=0) + MARGIN,
        boxes=boxes,
        arrows=tuple(_arrow(a, b) for one, two in pairwise(steps) for a in one for b in two),
        drops=tuple(f"M{box.middle} {box.y - DROP}V{box.y}" for box in boxes if box.undo),
        label=f"The steps of the saga; it is {words(status)}" + (f" at {', '.join(now)}" if now else ""),
    )


def _stages(definition: SagaDefinition | None, rows: Sequence[Row]) -> list[list[Row]]:
    """The rows that stand below each other."""
    stages: dict[int, list[Row]] = {}
    for position, row in enumerate(rows):
        declared = definition.declared(position, row.name) if definition is not None else None
        stages.setdefault(declared.stage if declared is not None else len(rows) + position, []).append(row)
    return list(stages.values())


def _column(stage: Sequence[Row], x: int, parked_at: str) -> list[Box]:
    labels = [_texts(r) for row in stage for r in (row, row.compensation) if r is not None]
    width = max(NARROWEST, *(round(len(text) * CHARACTER) + PADDING for pair in labels for text in pair))
    made, y = [], MARGIN
    for row in stage:
        name, word = _texts(row)
        now = row.status in UNDER_WAY or _due(row)
        stuck = row.name == parked_at
        tone = "alarm" if stuck else TONES.get(row.status, "quiet")
        made.append(Box(x, y, width, STEP_HEIGHT, name, "parked" if stuck else word, tone, now or stuck))
        y += STEP_HEIGHT
        if row.compensation is not None:
            name, word = _texts(row.compensation)
            tone = TONES.get(row.compensation.status, "quiet")
            now = row.compensation.status in UNDOING or (not now and _due(row.compensation))
            made.append(Box(x, y + DROP, width, UNDO_HEIGHT, name, word, tone, now, undo=True))
            y += DROP + UNDO_HEIGHT
        y += DOWN
    return made


def _due(row: Row) -> bool:
    """Whether it will be begun, or tried again, without anything else happening before."""
    return row.status == StepStatus.PENDING and bool(row.note)


def _texts(row: Row) -> tuple[str, str]:
    """The two lines of a box."""
    word = row.label or words(row.status) or "not needed"
    return row.name, f"{word}, pivot" if PIVOT in row.tags else word


def _arrow(one: Box, two: Box) -> str:
    """From the right of one step to the left of the next."""
    start, end = one.y + one.height // 2, two.y + two.height // 2
    left, right = one.x + one.width, two.x - 2
    middle = right - ACROSS // 2
    return f"M{left} {start}H{middle}V{end}H{right}" if start != end else f"M{left} {start}H{right}"
