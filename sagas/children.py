"""What the state of a child saga means to its parent. Pure (rule 18)."""

from __future__ import annotations

from sagas.definition import SagaDefinition
from sagas.facts import past_pivot, undo_set
from sagas.state import Accepted, Done, Impossible, Refused, SagaState, Status

UNDONE = frozenset({Status.FAILED, Status.COMPENSATED})


def outcome(child: SagaState) -> Done | Refused | None:
    """What a child's end means to its parent; None while it has none."""
    if child.status is Status.COMPLETED:
        return Done({"saga_id": str(child.id), **(child.result or {})})
    if child.status in UNDONE:
        error = child.error or {}
        return Refused(str(error.get("code", "child_failed")), str(error.get("reason", "the child failed")))
    return None


def undo_outcome(definition: SagaDefinition, child: SagaState) -> Done | Accepted | Impossible | None:
    """How far the undoing of a child has come; None if it is still to be told to compensate.

    One that completed and has nothing to undo, such as a saga of reads, stays completed and counts
    as undone; `definition` is its own.
    """
    if child.status in UNDONE or _harmless(definition, child):
        return Done({})
    if child.status is Status.COMPENSATION_FAILED:
        return Impossible("child_not_undone", f"child {child.id}: its compensation needs a person")
    return Accepted("child") if child.status is Status.COMPENSATING else None


def _harmless(definition: SagaDefinition, child: SagaState) -> bool:
    done = child.status is Status.COMPLETED and not past_pivot(definition, child)
    return done and not undo_set(definition, child)
