"""What a stack leaves on disk is believed only while its supervisor lives."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stack.__main__ import manage
from stack.config import Config
from stack.errors import Trouble
from stack.state import Owned, State


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A stack of its own folder."""
    found = Config.parse({"DATA_DIR": str(tmp_path)})
    found.run.mkdir()
    return found


def supervisor(pid: int) -> Owned:
    owned = Owned.of("supervisor", pid)
    assert owned is not None
    return owned


def of_one_that_was_killed() -> Owned:
    """A supervisor that ran, and is gone."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        return supervisor(process.pid)


def test_a_stack_is_ready_while_its_supervisor_lives(config: Config) -> None:
    state = State(config.run)
    state.write([supervisor(os.getpid())], ready=False)
    assert not state.ready()
    state.write([supervisor(os.getpid())], ready=True)
    assert state.ready()


def test_a_stack_that_was_killed_is_not_ready(config: Config) -> None:
    state = State(config.run)
    state.write([of_one_that_was_killed()], ready=True)
    assert not state.ready()
    with pytest.raises(Trouble, match="Nothing is up here"):
        manage(config, ["check"])


def test_a_later_process_of_the_same_number_is_another(config: Config) -> None:
    mine = supervisor(os.getpid())
    state = State(config.run)
    state.write([Owned(mine.name, mine.pid, mine.created - 60)], ready=True)
    assert not state.ready()
