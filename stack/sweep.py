"""Stopping a stack from outside, cleaning up after one that was killed, and deleting its data."""

import os
import shutil
import signal
from collections.abc import Sequence

import psutil

from stack.config import Config
from stack.errors import Trouble
from stack.progress import doing, note
from stack.state import Owned, State
from stack.waiting import wait_until

PATIENCE = 120.0
MARK = "made-by-stack"


def down(config: Config) -> None:
    """Stops the stack of this folder, if one is up, and waits for its end. Raises Trouble if it stays."""
    state = State(config.run)
    owned = state.owned()
    supervisor = owned[0].process() if owned else None
    if supervisor is not None:
        with doing("Stopping the stack"):
            supervisor.terminate()
            if not wait_until(lambda: owned[0].process() is None, PATIENCE, pause=0.1):
                raise Trouble(f"The stack (pid {owned[0].pid}) still runs; see {config.logs / 'stack.log'}.")
    elif not sweep(config):
        note("Nothing is up here.")


def clean(config: Config) -> None:
    """Stops the stack and deletes its databases, logs and run files; never those of servers given by URL."""
    if State(config.run).owned():
        down(config)
    if not (config.data / MARK).exists():
        note(f"No data of a stack in {config.data}.")
        return
    for entry in config.data.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    config.data.rmdir()
    note(f"Deleted {config.data}.")


def sweep(config: Config) -> bool:
    """Stops what a supervisor that was killed has left behind; whether there was anything."""
    state = State(config.run)
    left = [one for one in state.owned()[1:] if one.process() is not None]
    if left:
        with doing(f"Stopping what an earlier run left behind: {', '.join(one.name for one in left)}"):
            servers = [one for one in left if one.name in ("postgres", "redis")]
            _stop([one for one in left if one not in servers])
            _stop(servers)
    state.clear()
    return bool(left)


def _stop(owned: Sequence[Owned]) -> None:
    for one in owned:
        process = one.process()
        if process is not None:
            # To PostgreSQL SIGTERM means to wait for its clients, SIGINT to send them away.
            os.kill(process.pid, signal.SIGINT if one.name == "postgres" else signal.SIGTERM)
    if wait_until(lambda: all(one.process() is None for one in owned), 20.0, pause=0.1):
        return
    for one in owned:
        process = one.process()
        if process is not None:
            for member in (process, *process.children(recursive=True)):
                _kill(member)


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
