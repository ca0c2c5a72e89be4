"""What a saga's state tells: its keys, what is to be undone, whether there is a way back. Pure."""

from __future__ import annotations

from uuid import UUID

from sagas.definition import Results, SagaDefinition, SagaView
from sagas.state import Effect, SagaState, Status, StepState, StepStatus

CHANGED = (
    "no longer has the steps that this saga began with: bring them back, or give the changed definition "
    "a version of its own beside the old one; then resume"
)


def idempotency_key(saga_id: UUID, step: StepState, *, backward: bool) -> str:
    """saga : step : direction : generation (rule 11)."""
    if backward:
        return f"{saga_id}:{step.name}:compensation:{step.undo_generation}"
    return f"{saga_id}:{step.name}:action:{step.generation}"


def fits(definition: SagaDefinition, state: SagaState) -> bool:
    """Whether the definition still has the steps that the saga began with, which are pinned (rule 2)."""
    return len(definition.steps) == len(state.steps) and all(
        declared.name == step.name for declared, step in zip(definition.steps, state.steps, strict=True)
    )


def view(definition: SagaDefinition, state: SagaState) -> SagaView:
    """What step functions may know at this point."""
    results = {
        declared.function: step.result for declared, step in zip(definition.steps, state.steps, strict=True)
    }
    return SagaView(state.id, state.correlation_id, definition.Input, state.data, Results(results))


def past_pivot(definition: SagaDefinition, state: SagaState) -> bool:
    """True once the pivot is done, claimed, or perhaps done: there is no way back (rule 15).

    Done counts by whatever means: a call, a wait that ended, or a person's hand.
    """
    return any(
        declared.pivot
        and (
            step.status in (StepStatus.COMPLETED, StepStatus.IN_PROGRESS)
            or step.effect in (Effect.DONE, Effect.UNKNOWN)
        )
        for declared, step in zip(definition.steps, state.steps, strict=True)
    )


def undo_set(definition: SagaDefinition, state: SagaState) -> list[StepState]:
    """Rule 10, in the order of doing: what completed and what may have had an effect."""
    chosen = [
        step
        for step in state.steps[state.retreat_to or 0 :]
        if step.effect in (Effect.DONE, Effect.UNKNOWN) and _undoable(definition, step)
    ]
    return sorted(chosen, key=lambda step: (step.sequence or 0, step.position))


def _undoable(definition: SagaDefinition, step: StepState) -> bool:
    """A step with a compensation, or one that started a child, which is undone as a saga is."""
    return definition.steps[step.position].undo is not None or started_a_child(step)


def started_a_child(step: StepState) -> bool:
    """True of a step that asks for a child saga, in its present generation."""
    return "child" in (step.request or {})


def unstarted(state: SagaState) -> bool:
    """True of a saga that was created and not told to run: no step of it was ever due."""
    return state.status is Status.PENDING and state.untouched


def awaited(step: StepState) -> str | None:
    """The signal that a step waits for or, in its present generation, has waited for."""
    wait = step.wait or {}
    return wait["name"] if wait.get("kind") in ("signal", "approval") else None
