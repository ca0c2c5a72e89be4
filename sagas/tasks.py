"""Celery tasks: shells that carry ids to the engine and its answer to the dispatcher."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import structlog
from celery import Task, shared_task

from sagas import dispatch, engine, recovery, webhooks, worker
from sagas.definition import registry
from sagas.errors import UnknownSagaType

log = structlog.get_logger(__name__)

PUT_BACK_AFTER = 5.0
# On the tasks, so that a project's other tasks keep their own ways. Acknowledged after the work, also
# when a child is lost; no results, since the row tells everything.
DURABLE: dict[str, Any] = {"acks_late": True, "reject_on_worker_lost": True, "ignore_result": True}


@shared_task(bind=True, name=dispatch.STEP_TASK, **DURABLE)
def step(self: Task[Any, Any], saga_id: str, position: int, epoch: int, type: str, version: int) -> None:
    """Perform one step forward."""
    _work(self, saga_id, position, epoch, type, version)


@shared_task(bind=True, name=dispatch.COMPENSATE_TASK, **DURABLE)
def compensate(
    self: Task[Any, Any], saga_id: str, position: int, epoch: int, type: str, version: int
) -> None:
    """Perform one compensation."""
    _work(self, saga_id, position, epoch, type, version)


def _work(task: Task[Any, Any], saga_id: str, position: int, epoch: int, type: str, version: int) -> None:
    try:
        definition = registry.get(type, version)
    except UnknownSagaType:
        # A worker of another release may have the code: put the message back for it (rule 2).
        log.warning("no code for this saga here, message put back", saga=saga_id, type=type, version=version)
        task.request.chain = None
        task.apply_async((saga_id, position, epoch, type, version), countdown=PUT_BACK_AFTER)
        return
    progress = worker.advance(definition, UUID(saga_id), position, epoch)
    if _chain_goes_on(task, progress):
        return
    task.request.chain = None
    if progress.state is not None:
        dispatch.ring(progress.state, progress.due, engine.clock.now())


def _chain_goes_on(task: Task[Any, Any], progress: engine.Progress) -> bool:
    """True if the next message of this chain is just what is due now; else the chain is cut (rule 4)."""
    behind: Any = task.request.chain
    state = progress.state
    if not behind or state is None or len(progress.due) != 1:
        return False
    position = progress.due[0]
    due_at = state.steps[position].due_at
    return (
        list(behind[-1]["args"][:3]) == [str(state.id), position, state.epoch]
        and due_at is not None
        and due_at <= engine.clock.now()
    )


@shared_task(name=dispatch.WAKE_TASK, **DURABLE)
def wake(saga_id: str) -> None:
    """What a saga waits for may have come: look."""
    recovery.look(UUID(saga_id))


@shared_task(name=dispatch.UNLOCK_TASK, **DURABLE)
def unlocked(key: str) -> None:
    """A semantic lock is free: let the first in its queue begin."""
    first = engine.first_in_line(key)
    if first is not None:
        recovery.look(first)


@shared_task(name="sagas.scan.recover", **DURABLE)
def recover() -> int:
    """Beat: find interrupted sagas and let them go on."""
    return recovery.recover()


@shared_task(name="sagas.scan.expire", **DURABLE)
def expire() -> int:
    """Beat: extend or turn overdue sagas."""
    return recovery.expire()


@shared_task(name="sagas.scan.canary", **DURABLE)
def canary() -> None:
    """Beat: prove that messages reach a worker that can write."""
    engine.beat("canary")


@shared_task(name="sagas.scan.webhooks", **DURABLE)
def tell() -> None:
    """Beat: tell users' servers which sagas have ended."""
    webhooks.scan()
