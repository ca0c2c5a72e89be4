"""Places at which a process kills itself, once, when a file asks it to.

The file lies in the folder that CRASH_FOLDER names, is called `<point>.<saga>.<epoch>.<position>`
and says who dies: the `child`, or the whole `worker`. Its removal is what makes it happen once.
"""

import os
import signal
from functools import partial, wraps
from pathlib import Path
from typing import Any

from celery.signals import task_postrun

from sagas import dispatch, engine, recovery, worker

POINTS = (
    "before_claim",
    "after_claim",
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
    """Die here if that was asked for."""
    request = folder / name(point, saga_id, epoch, position)
    try:
        victim = request.read_text()
        request.unlink()
    except OSError:  # none, or that is no name of a file
        return
    if victim == "worker":
        os.killpg(os.getpgid(0), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def install() -> None:
    """Wrap what a worker does around each point."""
    if "CRASH_FOLDER" not in os.environ:
        return
    at = partial(reach, Path(os.environ["CRASH_FOLDER"]))
    claim, act, record, resume = engine.claim, worker.act, engine.record, recovery.resume

    @wraps(claim)
    def claiming(saga_id: Any, position: int, epoch: int, *rest: Any, **more: Any) -> Any:
        at("before_claim", saga_id, epoch, position)
        state = claim(saga_id, position, epoch, *rest, **more)
        if state is not None:
            at("after_claim", saga_id, epoch, position)
        return state

    @wraps(act)
    def acting(definition: Any, state: Any, position: int) -> Any:
        outcome = act(definition, state, position)
        at("answer_received", state.id, state.epoch, position)
        return outcome

    @wraps(record)
    def recording(definition: Any, state: Any, position: int, *rest: Any, **more: Any) -> Any:
        at("before_commit", state.id, state.epoch, position)
        progress = record(definition, state, position, *rest, **more)
        at("after_commit", state.id, state.epoch, position)
        return progress

    @wraps(resume)
    def resuming(saga_id: Any) -> Any:
        at(RECOVERY, saga_id, 0, 0)
        return resume(saga_id)

    engine.claim, worker.act, engine.record, recovery.resume = claiming, acting, recording, resuming

    @task_postrun.connect(weak=False)
    def ended(task: Any, args: Any, **_: Any) -> None:
        if task.name in (dispatch.STEP_TASK, dispatch.COMPENSATE_TASK) and len(args) == 5:
            saga_id, position, epoch, *_rest = args
            at("before_acknowledge", saga_id, epoch, position)
