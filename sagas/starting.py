"""Start a saga from a project's own code."""

from __future__ import annotations

from typing import Any

from sagas import dispatch, engine
from sagas.state import SagaState


def start(
    saga_type: str,
    data: Any,
    *,
    idempotency_key: str | None = None,
    actor: str = "",
    correlation_id: str | None = None,
) -> SagaState:
    """Store a new saga and ring the workers for it, inside a transaction once that commits.

    `data` is what the definition's `Input` takes: a mapping, or an instance of it. Under the same
    idempotency key the same request yields the same saga. `actor` is for the audit. If the broker
    cannot be reached the saga is stored all the same, and the recovery scan rings for it.

    Raises:
        UnknownSagaType: no such definition.
        InvalidInput: `data` does not fit it.
        IdempotencyConflict: the key was used with another request.
        LockHeld: another saga holds its lock, and the definition refuses to wait for it.
    """
    started = engine.start(
        saga_type, data, idempotency_key=idempotency_key, actor=actor, correlation_id=correlation_id
    )
    dispatch.ring(started.state, engine.due_positions(started.state), engine.clock.now())
    return started.state
