"""What a stack leaves on disk is believed only while its supervisor lives."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stack.__main__ import as_started, manage
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


def test_other_commands_find_a_stack_by_what_it_was_started_with(config: Config) -> None:
    started = Config.parse({**config.environment, "PORT_API": "18000", "REDIS_URL": "redis://:secret@away/0"})
    State(started.run, started.given).write([supervisor(os.getpid())], ready=True)
    State(config.run).write([supervisor(os.getpid())], ready=True)  # somebody who tidies up keeps it
    found = as_started(Config.parse({**config.environment, "PORT_FLOWER": "5000"}))
    assert (found.api_url, found.redis_url) == ("http://127.0.0.1:18000", "redis://:secret@away/0")
    assert (found.database_url, found.ports["PORT_FLOWER"]) == (None, 5555)
    assert State(config.run).path.stat().st_mode & 0o077 == 0
    State(config.run).clear()
    assert as_started(config).ports == config.ports
