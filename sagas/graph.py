"""A definition as a Mermaid flowchart, with the state of a running saga marked if one is given."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from sagas.definition import SagaDefinition, Step
from sagas.state import SagaState, Status, StepState, StepStatus

STYLES = {
    "done": "fill:#d9f2e0,stroke:#1b7f3b,color:#0b3d1c",
    "current": "fill:#fff3cd,stroke:#b58100,stroke-width:3px,color:#3d2c00",
    "failed": "fill:#f8d7da,stroke:#b02a37,color:#4a0f15",
    "undone": "fill:#e2d9f3,stroke:#59359a,color:#241340",
    "skipped": "fill:#eeeeee,stroke:#888888,color:#444444,stroke-dasharray:4 3",
}
CLASS_OF = {
    StepStatus.COMPLETED: "done",
    StepStatus.IN_PROGRESS: "current",
    StepStatus.WAITING: "current",
    StepStatus.COMPENSATING: "current",
    StepStatus.FAILED: "failed",
    StepStatus.COMPENSATION_FAILED: "failed",
    StepStatus.COMPENSATED: "undone",
    StepStatus.SKIPPED: "skipped",
}


def mermaid(definition: SagaDefinition, state: SagaState | None = None) -> str:
    """The chart: steps downward, members of a group side by side, compensations on dotted arrows."""
    lines = ["flowchart TD", "    start([start])"]
    before = ["start"]
    for _, members in groupby(definition.steps, key=lambda step: step.stage):
        stage = list(members)
        lines += _stage(stage, before)
        before = [node(step) for step in stage]
    lines += [f"    {name} --> done" for name in before]
    lines.append("    done([completed])")
    if state is not None:
        lines += _marks(definition, state)
    return "\n".join(lines) + "\n"


def node(step: Step) -> str:
    """The step's id in the chart."""
    return f"s{step.position}"


def _stage(stage: Sequence[Step], before: Sequence[str]) -> list[str]:
    lines = []
    if stage[0].group:
        lines.append(f'    subgraph {stage[0].group}["{stage[0].group} (parallel)"]')
    for step in stage:
        shape = ('{{"', '"}}') if step.pivot else ('["', '"]')
        label = step.name + (" (pivot)" if step.pivot else "") + (" (if)" if step.when else "")
        lines.append(f"    {node(step)}{shape[0]}{label}{shape[1]}")
    if stage[0].group:
        lines.append("    end")
    lines += [f"    {origin} --> {node(step)}" for origin in before for step in stage]
    for step in stage:
        if step.undo is not None:
            lines.append(f'    u{step.position}(["{step.undo.name}"])')
            lines.append(f"    {node(step)} -.-> u{step.position}")
    return lines


def _marks(definition: SagaDefinition, state: SagaState) -> list[str]:
    lines = [f"    classDef {name} {style}" for name, style in STYLES.items()]
    for step in state.steps:
        declared, kind = definition.declared(step.position, step.name), _kind(state, step)
        if declared is not None and kind is not None:
            lines.append(f"    class {node(declared)} {kind}")
    return lines


def _kind(state: SagaState, step: StepState) -> str | None:
    """What marks a step: how it stands, and the one that a saga is at or was parked at."""
    if step.due_at is not None:  # to be done, or to be undone
        return "current"
    at_fault = state.status is Status.PARKED and step.name == (state.error or {}).get("step")
    return CLASS_OF.get(step.status, "failed" if at_fault else None)
