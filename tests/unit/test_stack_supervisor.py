"""Processes are started, merged, restarted and stopped in order; a namesake of a process is left alone."""

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from stack.errors import Trouble
from stack.health import wait_healthy
from stack.processes import Process
from stack.state import Owned, State
from stack.supervisor import MergedLog, Supervisor
from stack.up import interruptible
from stack.waiting import wait_until

SLEEPER = "import signal; print('ready', flush=True); signal.pause()"
POLITE = (
    "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit('bye'));"
    " print('ready', flush=True); signal.pause()"
)
STUBBORN = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
)


class Stack:
    """A supervisor with its log and the pids it reported."""

    def __init__(self, programs: Mapping[str, str], leaves: Mapping[str, int]) -> None:
        self.text = io.StringIO()
        self.hurry = threading.Event()
        self.pids: dict[str, int] = {}
        log = MergedLog(self.text, list(programs), shown=False)
        self.supervisor = Supervisor(dict(os.environ), log, self.hurry, self.take)
        self.processes = [
            Process(name, (sys.executable, "-c", code), self.printed(name), leaves=leaves.get(name, 0))
            for name, code in programs.items()
        ]

    def take(self, pids: Mapping[str, int]) -> None:
        self.pids = dict(pids)

    def printed(self, name: str) -> Callable[[], bool]:
        return lambda: "ready" in self.supervisor.log.last_lines(name)

    def start(self) -> None:
        for process in self.processes:
            self.supervisor.start(process)
        wait_healthy(self.supervisor, self.processes, patience=20)


@pytest.fixture
def stacks() -> Iterator[Callable[..., Stack]]:
    made: list[Stack] = []

    def make(leaves: Mapping[str, int] | None = None, **programs: str) -> Stack:
        made.append(Stack(programs, leaves or {}))
        return made[-1]

    yield make
    for stack in made:
        stack.hurry.set()
        stack.supervisor.stop()


def test_lines_of_all_are_merged_under_their_names(stacks: Callable[..., Stack]) -> None:
    stack = stacks(one=SLEEPER, longer=SLEEPER)
    stack.start()
    lines = stack.text.getvalue().splitlines()
    assert sorted(line.split(" ", 1)[1] for line in lines) == ["longer | ready", "one    | ready"]


def test_stop_leaves_nothing_and_keeps_the_order(stacks: Callable[..., Stack]) -> None:
    stack = stacks({"service": 1}, service=POLITE, client=POLITE)
    stack.start()
    stack.supervisor.stop()
    assert stack.pids == {}
    said = [line.split(" ", 1)[1] for line in stack.text.getvalue().splitlines() if "bye" in line]
    assert said == ["client  | bye", "service | bye"]


def test_one_that_falls_at_the_start_is_named_with_its_last_words(
    stacks: Callable[..., Stack], capsys: pytest.CaptureFixture[str]
) -> None:
    stack = stacks(good=SLEEPER, bad="raise SystemExit('no such setting')")
    with pytest.raises(Trouble, match="bad ended at the start"):
        stack.start()
    assert "bad | no such setting" in capsys.readouterr().out


def test_one_that_falls_later_is_started_again(stacks: Callable[..., Stack]) -> None:
    stack = stacks(worker=SLEEPER)
    stack.start()
    stack.supervisor.settled()
    first = stack.pids["worker"]
    os.kill(first, signal.SIGKILL)
    assert wait_until(lambda: stack.pids.get("worker", first) != first, 20)


def test_one_that_does_not_listen_is_killed_when_there_is_a_hurry(stacks: Callable[..., Stack]) -> None:
    stack = stacks(deaf=STUBBORN)
    stack.start()
    stack.hurry.set()
    stack.supervisor.stop()
    assert stack.pids == {}


def test_a_process_with_a_recycled_pid_is_not_ours() -> None:
    me = Owned.of("me", os.getpid())
    assert me is not None
    assert me.process() is not None
    assert Owned("me", me.pid, me.created - 60).process() is None


def test_the_place_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with State(tmp_path).held(), pytest.raises(Trouble, match="up already"), State(tmp_path).held():
        pass
    with State(tmp_path).held():
        pass


def test_state_is_read_back(tmp_path: Path) -> None:
    me = Owned.of("supervisor", os.getpid())
    assert me is not None
    state = State(tmp_path)
    assert state.owned() == []
    state.write([me, Owned("api", 1, 2.5)], ready=True)
    assert State(tmp_path).owned() == [me, Owned("api", 1, 2.5)]
    assert State(tmp_path).ready()
    state.clear()
    assert not state.ready()


def test_what_outlives_a_stop_is_kept_for_the_next_command(tmp_path: Path) -> None:
    me = Owned.of("me", os.getpid())
    assert me is not None
    state = State(tmp_path)
    gone = Owned("gone", me.pid, me.created - 60)
    state.write([gone, gone, me], ready=True)
    state.forget_ended()
    assert state.owned() == [gone, me]
    state.write([me, gone], ready=True)
    state.forget_ended()
    assert state.owned() == []


def test_a_held_ctrl_c_stops_once_hurries_once_and_is_deaf_then() -> None:
    hurry = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    with interruptible(hurry):
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert not hurry.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        assert hurry.is_set()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is before
