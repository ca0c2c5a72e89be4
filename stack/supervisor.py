"""Runs processes side by side, merges what they print, restarts the fallen, stops them in order."""

import os
import shlex
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from honcho.colour import get_colours
from honcho.printer import Message, Printer
from honcho.process import Process as Child

from stack.config import ROOT
from stack.processes import Process

LAST_LINES = 25
GRACE = 45.0
LONGEST_PAUSE = 30.0


class MergedLog:
    """The lines of all processes: always in a file, and on the terminal while `shown`."""

    def __init__(self, file: TextIO, names: Sequence[str], *, shown: bool) -> None:
        width = max(map(len, names))
        self.shown = shown
        self.colours = dict(zip(names, get_colours(), strict=False))
        self._file = Printer(file, width=width, colour=False)
        self._terminal = Printer(sys.stdout, width=width)
        self._last = {name: deque[str](maxlen=LAST_LINES) for name in names}
        self._lock = threading.Lock()

    def write(self, message: Any) -> None:
        """Takes one line as honcho hands it on."""
        with self._lock:
            self._last[message.name].append(message.data.decode(errors="replace").rstrip())
            self._file.write(message)
            if self.shown:
                self._terminal.write(message)

    def say(self, name: str, text: str) -> None:
        """Adds a line of the supervisor's own about the process `name`."""
        now = datetime.now().astimezone()
        self.write(Message("line", text.encode(), now, name, self.colours[name]))

    def last_lines(self, name: str) -> list[str]:
        """The last lines that the process `name` printed."""
        with self._lock:
            return list(self._last[name])


class Supervisor:
    """Keeps processes running until it is told to stop.

    Until `settled()` a process that ends stays ended, and `fallen()` names it; afterwards it is
    started again, after a pause that grows while it keeps falling. SIGTERM goes to the process
    alone and not to its group: a worker finishes its steps only if its children are left alone.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        log: MergedLog,
        hurry: threading.Event,
        changed: Callable[[Mapping[str, int]], None],
    ) -> None:
        """`hurry`, once set, ends the grace; `changed` gets the processes' pids at every change."""
        self.environment = environment
        self.log = log
        self.hurry = hurry
        self.changed = changed
        self._stopping: set[str] = set()
        self._settled = False
        self._pids: dict[str, int] = {}
        self._ended: dict[str, int] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._processes: dict[str, Process] = {}
        self._lock = threading.Lock()
        self._quit = threading.Event()

    def start(self, process: Process) -> None:
        """Starts `process`; returns at once."""
        self._processes[process.name] = process
        thread = threading.Thread(target=self._keep, args=(process,), name=process.name, daemon=True)
        self._threads[process.name] = thread
        thread.start()

    def settled(self) -> None:
        """From now on a process that ends is started again."""
        self._settled = True

    def fallen(self) -> list[str]:
        """The processes that have ended by themselves."""
        with self._lock:
            return [name for name in self._ended if name not in self._stopping]

    def stop(self) -> None:
        """Stops all processes in their order, and kills those that outstay the grace."""
        self._quit.set()
        for stage in sorted({process.leaves for process in self._processes.values()}):
            self._stop([name for name, process in self._processes.items() if process.leaves == stage])

    def put(self, message: Any) -> None:
        """Takes an event of honcho's: a process started, printed a line, or stopped."""
        if message.type == "line":
            self.log.write(message)
            return
        with self._lock:
            if message.type == "start":
                self._pids[message.name] = message.data["pid"]
                self._ended.pop(message.name, None)
                if message.name in self._stopping:
                    self._signal(message.name, signal.SIGTERM)
            else:
                self._pids.pop(message.name, None)
                self._ended[message.name] = message.data["returncode"]
            self.changed(dict(self._pids))

    def _keep(self, process: Process) -> None:
        pause = 1.0
        environment = {**self.environment, **process.environment, "PYTHONUNBUFFERED": "1"}
        # honcho runs a shell line; exec makes the process itself the one that gets the signals.
        line = f"exec {shlex.join(process.command)}"
        while process.name not in self._stopping:
            began = time.monotonic()
            colour = self.log.colours[process.name]
            Child(line, name=process.name, colour=colour, env=environment, cwd=ROOT).run(events=self)
            if not self._settled or process.name in self._stopping:
                return
            pause = 1.0 if time.monotonic() - began > 60 else min(pause * 2, LONGEST_PAUSE)
            self.log.say(process.name, f"ended with {self._ended.get(process.name)}; again in {pause:.0f} s")
            self._quit.wait(pause)

    def _stop(self, names: Sequence[str]) -> None:
        with self._lock:
            self._stopping.update(names)
            for name in names:
                self._signal(name, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while any(self._threads[name].is_alive() for name in names):
            if self.hurry.is_set() or time.monotonic() > deadline:
                with self._lock:
                    for name in names:
                        self._signal(name, signal.SIGKILL)
            for name in names:
                self._threads[name].join(timeout=0.05)

    def _signal(self, name: str, number: signal.Signals) -> None:
        pid = self._pids.get(name)
        if pid is None:
            return
        try:
            # Each process leads a group of its own; only a kill is meant for its children too.
            os.killpg(pid, number) if number == signal.SIGKILL else os.kill(pid, number)
        except ProcessLookupError:
            return


def open_log(folder: Path) -> TextIO:
    """The file of the merged log; the one before is kept beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "stack.log"
    if path.exists():
        path.replace(folder / "stack.log.1")
    return path.open("w", encoding="utf-8")
