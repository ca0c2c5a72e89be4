"""Waiting until every process of a stack is healthy."""

from collections.abc import Callable, Sequence

from celery import Celery
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from stack.errors import Trouble
from stack.processes import Process
from stack.progress import doing, note
from stack.supervisor import Supervisor
from stack.waiting import wait_until

PATIENCE = 90.0


def worker_inspector(broker_url: str) -> Callable[[str], bool]:
    """A check, by node name, that a worker on that broker consumes its queues; it waits up to a second."""
    app = Celery(broker=broker_url)

    def consumes(node: str) -> bool:
        try:
            queues = app.control.inspect(destination=[node], timeout=1.0).active_queues()
        except (KombuError, RedisError, OSError):
            return False
        return bool(queues and queues.get(node))

    return consumes


def wait_healthy(supervisor: Supervisor, processes: Sequence[Process], patience: float = PATIENCE) -> None:
    """Returns when all `processes` are healthy.

    Raises Trouble that names those that ended, or were not healthy after `patience` seconds, after
    printing their last lines.
    """
    missing = [process.name for process in processes]
    with doing(f"{len(processes)} processes healthy") as status:

        def all_healthy() -> bool:
            for process in processes:
                if process.name in missing and process.healthy():
                    missing.remove(process.name)
            status.update(f"Waiting for {', '.join(missing)}")
            return not missing

        if wait_until(all_healthy, patience, give_up=lambda: bool(supervisor.fallen()), pause=0.25):
            return
    fallen = supervisor.fallen()
    for name in fallen or missing:
        for line in supervisor.log.last_lines(name):
            note(f"  {name} | {line}")
    if fallen:
        raise Trouble(f"{' and '.join(fallen)} ended at the start; the last lines are above.")
    raise Trouble(f"Not healthy after {patience:.0f} s: {', '.join(missing)}; their last lines are above.")
