"""One process of the system under test, which can be killed, paused and started again."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from stack.config import ROOT
from stack.processes import Process
from stack.waiting import wait_until

PATIENCE = 60.0
GRACE = 30.0
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class Running:
    """A process of the stack with what it says in a file, started by `start` as often as need be."""

    def __init__(self, process: Process, environment: Mapping[str, str], folder: Path) -> None:
        self.name = process.name
        self.log = folder / f"{process.name}.log"
        self._process = process
        self._environment = {**environment, **process.environment, "PGAPPNAME": process.name}
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id, which is also that of its group."""
        assert self._child is not None
        return self._child.pid

    def start(self) -> None:
        """Start it; it ends at the latest with the tests, however those end."""
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                self._process.command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def ended(self) -> bool:
        """Whether it does not run."""
        return self._child is None or self._child.poll() is not None

    def wait_healthy(self) -> None:
        """Return when it does its work; fail the test if it does not come to that."""
        healthy = wait_until(self._process.healthy, PATIENCE, give_up=self.ended)
        assert healthy, f"{self.name} is not healthy:\n{self.log.read_text(errors='replace')[-3000:]}"

    def restart(self) -> None:
        """Start it again, healthy."""
        self.start()
        self.wait_healthy()

    def ask_to_end(self) -> None:
        """Ask it to end when it has done what it is at."""
        if self._child is not None and not self.ended():
            self._child.terminate()

    def stop(self) -> None:
        """Ask it to end, and see to it."""
        self.ask_to_end()
        wait_until(self.ended, GRACE)
        self.kill()

    def kill(self) -> None:
        """Kill it with all its children, without a word, as a machine that loses power would."""
        if self._child is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait(GRACE)

    def children(self) -> set[int]:
        """The process ids of its children."""
        return {child.pid for child in psutil.Process(self.pid).children()}

    def kill_children(self) -> int:
        """Kill its children but not itself; tells how many there were."""
        children = psutil.Process(self.pid).children()
        for child in children:
            child.kill()
        return len(children)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and all its children: SIGSTOP makes them stand still."""
        os.killpg(self.pid, number)


def stop_all(running: Iterable[Running]) -> None:
    """Ask them all to end at once, and see to it."""
    processes = list(running)
    for process in processes:
        process.ask_to_end()
    for process in processes:
        process.stop()


def program(environment: Mapping[str, str], *arguments: str) -> str:
    """What a Python program of the project prints; its failure is the caller's, with all it said."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**environment, "DJANGO_SETTINGS_MODULE": "sagaproject.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def die_with_parent() -> None:
    """In the new process: have the kernel kill it when the tests are gone (prctl, Linux)."""
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
