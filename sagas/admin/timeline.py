"""The steps of one saga as rows to look at, each with its compensation below it. Pure: rows in, rows out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

from sagas.admin.looks import away, human, pretty
from sagas.definition import SagaDefinition, Step, registry
from sagas.errors import UnknownSagaType
from sagas.models import Saga, SagaStep
from sagas.state import Effect, Status, StepStatus

BACKWARD = frozenset({Status.COMPENSATING, Status.COMPENSATED, Status.COMPENSATION_FAILED})
UNDOING = BACKWARD - {Status.COMPENSATED}
NARROWEST = 0.6
PIVOT = "point of no return"


@dataclass(frozen=True, slots=True)
class Span:
    """The time that the bars are drawn over."""

    start: datetime
    end: datetime
    now: datetime


@dataclass(frozen=True, slots=True)
class Bar:
    """Where a piece of work lies between the saga's start and end, in percent."""

    x: str
    width: str
    tone: str


@dataclass(frozen=True, slots=True)
class Row:
    """One action or compensation; texts are ready to print, empty where there is nothing to say."""

    name: str
    status: str
    number: int = 0
    label: str = ""
    begun: bool = False
    undo: bool = False
    attempts: str = ""
    generation: int = 0
    duration: str = ""
    note: str = ""
    error_code: str = ""
    error_reason: str = ""
    call: str = ""
    participant: str = ""
    body: str = ""
    result: str = ""
    error: str = ""
    key: str = ""
    bar: Bar | None = None
    tags: tuple[str, ...] = ()
    compensation: Row | None = None


def declared(saga: Saga) -> SagaDefinition | None:
    """The code of this saga, if this process has it."""
    try:
        return registry.get(saga.type, saga.version)
    except UnknownSagaType:
        return None


def rows(saga: Saga, steps: Sequence[SagaStep], now: datetime) -> list[Row]:
    """One row a step, in order."""
    definition, span = declared(saga), spanned(saga, steps, now)
    return [_action(saga, step, _declaration(definition, step), span) for step in steps]


def _declaration(definition: SagaDefinition | None, step: SagaStep) -> Step | None:
    return None if definition is None else definition.declared(step.position, step.name)


def spanned(saga: Saga, steps: Sequence[SagaStep], now: datetime) -> Span:
    """From the first claim to the last thing that happened, or to now while something moves.

    Not from the saga's creation: a saga that is retried a day later would have no room for its steps.
    """
    starts = [t for s in steps for t in (s.started_at, s.undo_started_at) if t is not None]
    ends = [t for s in steps for t in (s.finished_at, s.undo_finished_at) if t is not None]
    moving = any(s.lease_until or s.due_at or s.status == StepStatus.WAITING for s in steps)
    start = min(starts, default=saga.created_at)
    end = now if moving else max([start, *starts, *ends])
    return Span(start, end, now)


def left_to_undo(made: Sequence[Row]) -> list[Row]:
    """The compensations that a parked saga still owes, in the order in which they are due."""
    owed = (StepStatus.COMPENSATION_FAILED, StepStatus.COMPENSATING, StepStatus.PENDING)
    undos = [row.compensation for row in reversed(made) if row.compensation is not None]
    return [undo for undo in undos if undo.status in owed]


def current(saga: Saga, steps: Sequence[SagaStep]) -> str:
    """Which step a saga is at, or failed at; empty for one that is completed or has not begun."""
    if saga.status == Status.COMPLETED:
        return ""
    moving = (s for s in steps if s.lease_until or s.due_at or s.status == StepStatus.WAITING)
    refused = (s for s in steps if s.status == StepStatus.COMPENSATION_FAILED)
    parked = (s for s in steps if saga.status == Status.PARKED and s.status == StepStatus.PENDING)
    failed = (s for s in steps if s.status == StepStatus.FAILED)
    step = next(chain(moving, refused, parked, failed), None)
    return _at(saga, step) if step is not None else ""


def _at(saga: Saga, step: SagaStep) -> str:
    if saga.status not in UNDOING:
        return f"{step.name}, attempt {step.attempts}" if step.attempts > 1 else step.name
    name = undo_name(step, _declaration(declared(saga), step))
    return f"{name}, attempt {step.undo_attempts}" if step.undo_attempts > 1 else name


def undo_name(step: SagaStep, declaration: Step | None) -> str:
    """What the compensation of a step is called."""
    return declaration.undo.name if declaration is not None and declaration.undo else f"undo {step.name}"


def _action(saga: Saga, step: SagaStep, declaration: Step | None, span: Span) -> Row:
    backward, now = saga.status in BACKWARD, span.now
    request = step.request or {}
    error = step.error or {}
    return Row(
        name=step.name,
        number=step.position + 1,
        status=_forward_status(step),
        label="retrying" if step.status == StepStatus.PENDING and step.attempts and step.due_at else "",
        begun=step.attempts > 0,
        attempts=_attempts(step.attempts, step.forgiven, step.crashes),
        generation=step.generation,
        duration=_duration(step.started_at, step.finished_at, now, running=_moving(step, backward=False)),
        note="" if backward and step.attempts else _note(step, now),
        error_code=str(error.get("code", "")),
        error_reason=str(error.get("reason", "")),
        call=_call(request),
        participant=str(request.get("participant", "")),
        body=pretty(request["body"]) if request.get("body") else "",
        result=pretty(step.result) if step.result is not None else "",
        error=pretty(step.error) if step.error else "",
        key=f"{saga.id}:{step.name}:action:{step.generation}" if step.attempts else "",
        bar=_bar(
            span, step.started_at, step.finished_at, _moving(step, backward=False), _forward_status(step)
        ),
        tags=_tags(step, declaration),
        compensation=_compensation(saga, step, declaration, span),
    )


def _forward_status(step: SagaStep) -> str:
    """What became of the action; the columns of its compensation tell the rest."""
    if step.status not in (StepStatus.COMPENSATING, StepStatus.COMPENSATED, StepStatus.COMPENSATION_FAILED):
        return step.status
    return StepStatus.COMPLETED if step.result is not None or not step.error else StepStatus.FAILED


def _compensation(saga: Saga, step: SagaStep, declaration: Step | None, span: Span) -> Row | None:
    has_undo = declaration.undo is not None if declaration is not None else step.undo_attempts > 0
    if not has_undo and not step.undo_attempts:
        return None
    status, label = _undo_status(saga, step)
    now, request, moving = span.now, step.undo_request or {}, _moving(step, backward=True)
    error = step.undo_error or {}
    return Row(
        name=undo_name(step, declaration),
        status=status,
        label=label,
        begun=step.undo_attempts > 0 or (saga.status in BACKWARD and bool(status)),
        undo=True,
        attempts=_attempts(step.undo_attempts, step.undo_forgiven, step.undo_crashes),
        generation=step.undo_generation,
        duration=_duration(
            step.undo_started_at, step.undo_finished_at, now, running=_moving(step, backward=True)
        ),
        note=_note(step, now) if saga.status in BACKWARD else "",
        error_code=str(error.get("code", "")),
        error_reason=str(error.get("reason", "")),
        call=_call(request),
        participant=str(request.get("participant", "")),
        body=pretty(request["body"]) if request.get("body") else "",
        error=pretty(step.undo_error) if step.undo_error else "",
        key=f"{saga.id}:{step.name}:compensation:{step.undo_generation}" if step.undo_attempts else "",
        bar=_bar(span, step.undo_started_at, step.undo_finished_at, moving, status),
    )


def _undo_status(saga: Saga, step: SagaStep) -> tuple[str, str]:
    """The status of a compensation and its word; both empty while nothing speaks for undoing."""
    if step.effect == Effect.UNDONE:
        return StepStatus.COMPENSATED, "undone"
    if step.status == StepStatus.COMPENSATION_FAILED:
        return StepStatus.COMPENSATION_FAILED, "not undone"
    if step.status == StepStatus.COMPENSATING:
        if step.lease_until is not None:
            return StepStatus.COMPENSATING, "undoing"
        return StepStatus.COMPENSATING, "retrying" if step.undo_attempts else "to undo"
    if saga.status in BACKWARD and step.effect in (Effect.DONE, Effect.UNKNOWN):
        return StepStatus.PENDING, "to undo"
    return "", ""


def _attempts(attempts: int, forgiven: int, crashes: int) -> str:
    if not attempts:
        return ""
    extra = [f"{forgiven} forgiven"] * (forgiven > 0) + [f"{crashes} crashed"] * (crashes > 0)
    return f"{attempts} ({', '.join(extra)})" if extra else str(attempts)


def _duration(start: datetime | None, end: datetime | None, now: datetime, *, running: bool) -> str:
    if start is None:
        return ""
    if end is not None:
        return human(end - start)
    return f"{human(now - start)} so far" if running else ""


def _note(step: SagaStep, now: datetime) -> str:
    """What the step waits for."""
    if step.status == StepStatus.WAITING:
        return _waits(step.wait or {})
    if step.lease_until is not None:
        gone = step.lease_until <= now
        return "its worker is lost, the scan will see to it" if gone else "a worker is on it"
    if step.due_at is not None:
        return f"next attempt {away(step.due_at, now)}" if step.due_at > now else "due, waits for a worker"
    return ""


def _waits(wait: dict[str, Any]) -> str:
    kind, name, until = wait.get("kind", "something"), wait.get("name"), wait.get("until")
    limit = f", until {datetime.fromisoformat(until):%Y-%m-%d %H:%M:%S %Z}" if until else ""
    return f"waits for {kind}" + (f" “{name}”" if name else "") + limit


def _call(request: dict[str, Any]) -> str:
    if "participant" in request:
        return f"{request['method']} {request['path']}"
    if "child" in request:
        return f"child saga {request['child'].get('type', '')}"
    return "local value" if "value" in request else ""


def _tags(step: SagaStep, declaration: Step | None) -> tuple[str, ...]:
    tags = []
    if declaration is not None and declaration.pivot:
        tags.append(PIVOT)
    if declaration is not None and declaration.group:
        tags.append(f"parallel: {declaration.group}")
    if step.effect == Effect.UNKNOWN:
        tags.append("effect unknown")
    return tuple(tags)


def _moving(step: SagaStep, *, backward: bool) -> bool:
    """Whether this direction of the step is being worked on, or will be again."""
    if step.status == StepStatus.WAITING:
        return not backward
    undoing = step.status == StepStatus.COMPENSATING
    return undoing is backward and (step.lease_until is not None or step.due_at is not None)


def _bar(span: Span, start: datetime | None, end: datetime | None, moving: bool, tone: str) -> Bar | None:
    if start is None:
        return None
    whole = max((span.end - span.start).total_seconds(), 1e-6)
    until = end if end is not None else span.now if moving else start
    left = min(max((start - span.start).total_seconds() / whole * 100, 0), 100 - NARROWEST)
    width = min(max((until - start).total_seconds() / whole * 100, NARROWEST), 100 - left)
    return Bar(f"{left:.2f}", f"{width:.2f}", tone)
