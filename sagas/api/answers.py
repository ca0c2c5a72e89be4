"""What the API answers, as pydantic models that are the OpenAPI schema too, and how they are filled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, JsonValue

from sagas.api.display import NO_NAMES, display_status
from sagas.definition import SagaDefinition, Step, registry
from sagas.errors import UnknownSagaType
from sagas.models import Saga, SagaStep
from sagas.state import Effect, SagaState, Status, StepState, StepStatus


class Answer(BaseModel):
    """Base of answers: every field is always there."""

    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)


class CompensationStatus(StrEnum):
    """Where the compensation of one step stands; `pending` also when there is nothing to undo."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"


class StepErrorAnswer(Answer):
    """Why a step did not succeed: a code for programs, a reason for people."""

    code: str
    reason: str


class SagaErrorAnswer(Answer):
    """Why a saga turned or stopped, and at which step (empty if at none)."""

    step: str
    code: str
    reason: str


class CompensationAnswer(Answer):
    """The inverse of one step."""

    name: str | None
    status: CompensationStatus
    attempts: int
    error: StepErrorAnswer | None
    started_at: datetime | None
    finished_at: datetime | None


class StepAnswer(Answer):
    """One step; `compensation` is null if it declares none."""

    name: str
    status: StepStatus
    attempts: int
    result: JsonValue
    error: StepErrorAnswer | None
    started_at: datetime | None
    finished_at: datetime | None
    compensation: CompensationAnswer | None


class SagaAnswer(Answer):
    """One saga with its steps in order."""

    id: UUID
    type: str
    version: int
    status: Status
    display_status: str
    data: JsonValue
    result: JsonValue
    error: SagaErrorAnswer | None
    correlation_id: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    deadline_at: datetime | None
    steps: list[StepAnswer]


class SagaPage(Answer):
    """One page, newest first. `count` is exact up to 10 000 and an estimate above."""

    count: int
    next: str | None
    previous: str | None
    results: list[SagaAnswer]


class EffectAnswer(Answer):
    """What one step did at its participant, and whether that is undone.

    `effect`: none (it only asked), done, unknown (it may have been done), undone. `undone` is null if
    there is nothing to undo, or no compensation of its own that would.
    """

    step: str
    effect: Effect
    undone: bool | None
    compensation: CompensationAnswer | None


class CompensationsAnswer(Answer):
    """Each effect of a saga in the order of doing; undoing goes from the last to the first."""

    id: UUID
    status: Status
    results: list[EffectAnswer]


class DefinitionAnswer(Answer):
    """One installed type: its steps with their compensations, and the JSON schema of `data`."""

    type: str
    version: int
    paused: bool
    description: str
    steps: list[dict[str, JsonValue]]
    input_schema: dict[str, JsonValue]


class DefinitionsAnswer(Answer):
    """Every installed type in its newest version."""

    results: list[DefinitionAnswer]


class GraphAnswer(Answer):
    """A chart in Mermaid's language."""

    mermaid: str


# From the engine, or from the tables: the names are the same.
SagaRow = SagaState | Saga
StepRow = StepState | SagaStep

UNDO_STATUS = {
    StepStatus.COMPENSATING: CompensationStatus.IN_PROGRESS,
    StepStatus.COMPENSATED: CompensationStatus.COMPLETED,
    StepStatus.COMPENSATION_FAILED: CompensationStatus.FAILED,
}


def saga_answer(saga: SagaRow, steps: Iterable[StepRow]) -> SagaAnswer:
    """One saga as the API answers it."""
    rows, definition = list(steps), installed(saga)
    return SagaAnswer(
        id=saga.id,
        type=saga.type,
        version=saga.version,
        status=Status(saga.status),
        display_status=display_status(
            saga.status, saga.error, rows, getattr(definition, "display", NO_NAMES)
        ),
        data=saga.data,
        result=saga.result,
        error=None if saga.error is None else saga_error(saga.error),
        correlation_id=saga.correlation_id,
        created_at=saga.created_at,
        started_at=saga.started_at,
        finished_at=saga.finished_at,
        deadline_at=saga.deadline_at,
        steps=[step_answer(row, declared(definition, row)) for row in rows],
    )


def installed(saga: SagaRow) -> SagaDefinition | None:
    """The saga's definition; None if this process has no code of that version."""
    try:
        return registry.get(saga.type, saga.version)
    except UnknownSagaType:
        return None


def declared(definition: SagaDefinition | None, row: StepRow) -> Step | None:
    """The declaration of a step; None if it is not known here."""
    return None if definition is None else definition.declared(row.position, row.name)


def step_answer(row: StepRow, step: Step | None) -> StepAnswer:
    """One step with its compensation."""
    return StepAnswer(
        name=row.name,
        status=StepStatus(row.status),
        attempts=row.attempts,
        result=row.result,
        error=step_error(row.error),
        started_at=row.started_at,
        finished_at=row.finished_at,
        compensation=compensation_answer(row, step),
    )


def compensation_answer(row: StepRow, step: Step | None) -> CompensationAnswer | None:
    """The inverse of a step, as far as it got; None if none is declared, nor was ever tried."""
    name = step.undo.name if step is not None and step.undo is not None else None
    if name is None and not row.undo_attempts:
        return None
    return CompensationAnswer(
        name=name,
        status=UNDO_STATUS.get(StepStatus(row.status), CompensationStatus.PENDING),
        attempts=row.undo_attempts,
        error=step_error(row.undo_error),
        started_at=row.undo_started_at,
        finished_at=row.undo_finished_at,
    )


def reason_of(error: dict[str, Any]) -> str:
    """The reason for people; of a traceback its last line, the rest is for the audit."""
    reason = str(error.get("reason") or "").strip()
    return reason.splitlines()[-1] if error.get("code") == "definition_error" and reason else reason


def step_error(error: dict[str, Any] | None) -> StepErrorAnswer | None:
    """A stored error of a step as it is answered."""
    return (
        None if error is None else StepErrorAnswer(code=str(error.get("code") or ""), reason=reason_of(error))
    )


def saga_error(error: dict[str, Any]) -> SagaErrorAnswer:
    """A stored error of a saga as it is answered."""
    return SagaErrorAnswer(
        step=str(error.get("step") or ""), code=str(error.get("code") or ""), reason=reason_of(error)
    )


def compensations_answer(saga: SagaRow, steps: Sequence[StepRow]) -> CompensationsAnswer:
    """Each effect of a saga and whether it is undone, in the order of doing."""
    definition = installed(saga)
    begun = sorted(
        (row for row in steps if row.attempts or row.effect != Effect.NONE),
        key=lambda row: (row.sequence is None, row.sequence or 0, row.position),
    )
    return CompensationsAnswer(
        id=saga.id,
        status=Status(saga.status),
        results=[effect_answer(row, declared(definition, row)) for row in begun],
    )


def effect_answer(row: StepRow, step: Step | None) -> EffectAnswer:
    """What one step that was begun has done."""
    compensation = compensation_answer(row, step)
    only_asked = step is not None and step.read_only
    effect = Effect.NONE if only_asked else Effect(row.effect)
    undone = None if effect == Effect.NONE or compensation is None else effect == Effect.UNDONE
    return EffectAnswer(step=row.name, effect=effect, undone=undone, compensation=compensation)


def summary(definition: SagaDefinition) -> str:
    """The first paragraph of a definition's docstring."""
    return (type(definition).__doc__ or "").strip().split("\n\n")[0]


def definition_answer(definition: SagaDefinition, *, paused: bool) -> DefinitionAnswer:
    """One installed type, and whether an operator has paused it."""
    return DefinitionAnswer(
        type=definition.type,
        version=definition.version,
        paused=paused,
        description=summary(definition),
        steps=[
            {"name": step.name, "compensation": step.undo.name if step.undo else None, "pivot": step.pivot}
            for step in definition.steps
        ],
        input_schema=definition.Input.model_json_schema(),
    )
