"""What a decision means for a saga's steps, in words for whoever has to choose. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sagas.definition import SagaDefinition
from sagas.facts import undo_set
from sagas.state import SagaState, Status, StepState, StepStatus

SETTLED = (StepStatus.COMPLETED, StepStatus.SKIPPED)


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a verb would make of a saga.

    `status` is the one it would have at once, empty if nothing would change; `detail` says what
    would be done and left, or why nothing would change.
    """

    status: str
    detail: str


def in_words(definition: SagaDefinition, before: SagaState, after: SagaState) -> str:
    """All of `lines` as one sentence; empty if no step is concerned."""
    return "; ".join(f"{what} {which}" for what, which in lines(definition, before, after))


def lines(definition: SagaDefinition, before: SagaState, after: SagaState) -> Iterator[tuple[str, str]]:
    """Pairs of what would happen and to which steps, in the order of doing."""
    if after.paused_at is not None:
        yield "pauses", "nothing more is begun; a call on its way is still recorded"
        return
    in_flight = ", ".join(step.name for step in after.steps if step.in_flight)
    if after.status is Status.COMPENSATING:
        undos = [_undo_name(definition, step) for step in reversed(undo_set(definition, after))]
        if in_flight:
            yield "first waits for, and undoes if it had an effect", in_flight
        if undos:
            yield "undoes, in this order", ", ".join(undos)
    elif after.status in (Status.PENDING, Status.IN_PROGRESS, Status.WAITING):
        yield from _forward(after, in_flight)
    renewed = _renewed(before, after)
    if renewed:
        yield "with a new idempotency key", ", ".join(renewed)


def _forward(after: SagaState, in_flight: str) -> Iterator[tuple[str, str]]:
    kept = [step.name for step in after.steps if step.status is StepStatus.COMPLETED]
    left = [step.name for step in after.steps if step.status is StepStatus.SKIPPED]
    runs = [step.name for step in after.steps if step.status not in SETTLED and not step.in_flight]
    if kept:
        yield "keeps", ", ".join(kept)
    if left:
        yield "leaves out", ", ".join(left)
    if in_flight:
        yield "waits for", in_flight
    if runs:
        yield "runs", ", ".join(runs)


def _undo_name(definition: SagaDefinition, step: StepState) -> str:
    undo = definition.steps[step.position].undo
    return undo.name if undo is not None else step.name


def _renewed(before: SagaState, after: SagaState) -> list[str]:
    pairs = zip(before.steps, after.steps, strict=True)
    return [
        new.name
        for old, new in pairs
        if new.generation > old.generation or new.undo_generation > old.undo_generation
    ]
