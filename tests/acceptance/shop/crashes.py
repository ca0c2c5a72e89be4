"""Places at which a process kills itself or stands still, once, when a file asks it to.

The file lies in the folder that CRASH_FOLDER names, is called `<point>.<saga>.<epoch>.<position>`
and says who dies: the `child`, or the whole `worker`; `nobody` has the child stand still until it
is told to go on (SIGCONT). Its removal is what makes it happen once.
"""

import os
import signal
from datetime import timedelta
from functools import partial, wraps
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from uuid import UUID

from celery.signals import task_postrun

from sagas import engine, recovery, worker
from sagas.state import Outcome, Refused, SagaState

POINTS = (
    "before_claim",
    "after_claim",
    "request_sent",
    "answer_received",
    "before_commit",
    "after_commit",
    "before_acknowledge",
)
RECOVERY = "in_recovery"


def name(point: str, saga_id: object, epoch: int, position: int) -> str:
    """The file that asks for a crash."""
    return f"{point}.{saga_id}.{epoch}.{position}"


def reach(folder: Path, point: str, saga_id: object, epoch: int, position: int) -> None:
    """Die or stand still here if that was asked for."""
    request = folder / name(point, saga_id, epoch, position)
    try:
        victim = request.read_text()
        request.unlink()
    except OSError:  # none, or that is no name of a file
        return
    if victim == "nobody":
        os.kill(os.getpid(), signal.SIGSTOP)
        return
    if victim == "worker":
        os.killpg(os.getpgid(0), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def next_claim(state: SagaState, position: int, outcome: Outcome) -> tuple[UUID, int, int]:
    """The saga, epoch and position of the step that falls due when that outcome is recorded."""
    if state.steps[position].undoing:
        return state.id, state.epoch, position - 1
    if isinstance(outcome, Refused):  # the saga turns
        return state.id, state.epoch + 1, position - 1
    return state.id, state.epoch, position + 1


def install() -> None:
    """Wrap what a worker does around each point."""
    if "CRASH_FOLDER" not in os.environ:
        return
    at = partial(reach, Path(os.environ["CRASH_FOLDER"]))
    claim, act, record, resume = engine.claim, worker.act, engine.record, recovery.resume
    getresponse = HTTPConnection.getresponse
    acted: list[tuple[UUID, int, int]] = []  # by the present message, the last one perhaps under way

    @wraps(claim)
    def claiming(saga_id: UUID, position: int, epoch: int, lease: timedelta) -> SagaState | None:
        at("before_claim", saga_id, epoch, position)
        state = claim(saga_id, position, epoch, lease)
        if state is not None:
            at("after_claim", saga_id, epoch, position)
        return state

    @wraps(act)
    def acting(definition: Any, state: SagaState, position: int) -> Any:
        acted.append((state.id, state.epoch, position))
        outcome = act(definition, state, position)
        at("answer_received", *acted[-1])
        return outcome

    def waiting_for_answer(self: HTTPConnection) -> HTTPResponse:
        if acted:
            at("request_sent", *acted[-1])
        return getresponse(self)

    @wraps(record)
    def recording(definition: Any, state: Any, position: int, outcome: Any, *rest: Any, **more: Any) -> Any:
        at("before_commit", state.id, state.epoch, position)
        if more["go_on"]:  # inline: the record is the claim of the next step
            at("before_claim", *next_claim(state, position, outcome))
        progress = record(definition, state, position, outcome, *rest, **more)
        at("after_commit", state.id, state.epoch, position)
        if progress.claimed is not None and progress.state is not None:
            at("after_claim", state.id, progress.state.epoch, progress.claimed)
        return progress

    @wraps(resume)
    def resuming(saga_id: UUID) -> Any:
        at(RECOVERY, saga_id, 0, 0)
        return resume(saga_id)

    engine.claim, worker.act, engine.record, recovery.resume = claiming, acting, recording, resuming
    HTTPConnection.getresponse = waiting_for_answer  # type: ignore[method-assign]  # to look at it is the point

    @task_postrun.connect(weak=False)
    def ended(**_: Any) -> None:
        while acted:
            at("before_acknowledge", *acted.pop())
