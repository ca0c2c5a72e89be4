"""Rings the workers: builds the chains of messages and sends them, after commit.

A message carries ids only: saga, position, epoch, type and version. It is a doorbell; the claim
decides whether there is something to do. If the broker cannot be reached, nothing is lost: the
scan rings later (rules 1, 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from celery import Signature, chain, current_app
from django.db import transaction
from kombu.exceptions import OperationalError

from sagas.claims import RUNG_WITHIN
from sagas.definition import SagaDefinition, registry
from sagas.state import FINISHED, SagaState

log = structlog.get_logger(__name__)

STEP_TASK = "sagas.step"
COMPENSATE_TASK = "sagas.compensate"
WAKE_TASK = "sagas.wake"
UNLOCK_TASK = "sagas.unlocked"


def ring(state: SagaState, due: Sequence[int], now: datetime) -> None:
    """Send one chain for every due position, when the surrounding transaction (if any) commits.

    What falls due in more than `RUNG_WITHIN` is left to the scan (`claims.wake_at`).
    The end of a saga is also told to its parent, and to who waits for its lock.
    """
    ended = state.status in FINISHED and (state.parent_id is not None or state.lock_key is not None)
    if not due and not ended:
        return
    if transaction.get_connection().in_atomic_block:
        transaction.on_commit(lambda: _send(state, due, now), robust=True)
    else:
        _send(state, due, now)


def _send(state: SagaState, due: Sequence[int], now: datetime) -> None:
    try:
        for position in due:
            due_at = state.steps[position].due_at
            wait = max((due_at - now) if due_at is not None else timedelta(0), timedelta(0))
            if wait > RUNG_WITHIN:
                continue  # a worker would hold it in memory, and Redis deliver it again and again
            definition = registry.get(state.type, state.version)
            message = chain_from(definition, state, position)
            if wait:
                message.apply_async(countdown=wait.total_seconds())
            else:
                message.apply_async()
        if state.status in FINISHED and state.parent_id is not None:
            current_app.signature(WAKE_TASK, args=(str(state.parent_id),)).apply_async()
        if state.status in FINISHED and state.lock_key is not None:
            current_app.signature(UNLOCK_TASK, args=(state.lock_key,)).apply_async()
    except (OperationalError, OSError) as error:
        log.warning(
            "broker unreachable, the recovery scan will ring",
            saga=str(state.id),
            type=state.type,
            correlation_id=state.correlation_id,
            error=str(error),
        )


def chain_from(definition: SagaDefinition, state: SagaState, position: int) -> Signature:
    """The message for `position` and, chained behind it, those that follow if all goes well.

    Forward the chain ends before a parallel group, whose members are rung for one by one, and
    behind a member of one, since only the join knows what comes next. Backward it follows the
    order of undoing as it is known now. Inline, the worker itself goes on: one message.
    """
    task = COMPENSATE_TASK if state.backward else STEP_TASK
    if definition.execution == "inline":
        positions = [position]
    else:
        positions = _undo_run(state, position) if state.backward else _forward_run(definition, position)
    messages = [
        current_app.signature(
            task, args=(str(state.id), p, state.epoch, state.type, state.version), immutable=True
        )
        for p in positions
    ]
    return messages[0] if len(messages) == 1 else chain(*messages)


def _forward_run(definition: SagaDefinition, position: int) -> list[int]:
    run = [position]
    if definition.steps[position].group:
        return run
    for step in definition.steps[position + 1 :]:
        if step.group:
            break
        run.append(step.position)
    return run


def _undo_run(state: SagaState, position: int) -> list[int]:
    upto = state.steps[position].sequence or 0
    done = [s for s in state.steps if s.sequence is not None and s.sequence <= upto and s.effect != "undone"]
    return [s.position for s in sorted(done, key=lambda s: s.sequence or 0, reverse=True)]
