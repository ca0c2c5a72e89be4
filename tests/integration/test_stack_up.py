"""`python -m stack up`, as `make up` runs it: sells twice, leaves no process behind, finds its data again."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest

from stack.config import PORTS, ROOT, Config
from stack.ports import free_port
from stack.state import Owned, State
from stack.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
START_SECONDS, STOP_SECONDS = 240, 150
SERVERS = ("DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE")  # those of the test run
SAGA = re.compile(r"^saga (\S+)$", re.MULTILINE)


@dataclass
class Up:
    """A stack that is up: what it printed, and all processes that it started."""

    supervisor: subprocess.Popen[bytes]
    printed: str
    started: list[Owned]


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """That of a stack with a folder and ports of its own."""
    data = tempfile.mkdtemp(prefix="sagas-")
    Path(data).chmod(0o711)  # nobody has to pass, where PostgreSQL runs as nobody
    inherited = {name: value for name, value in os.environ.items() if name not in SERVERS}
    ports = {name: str(free_port()) for name in PORTS}
    yield {**inherited, **ports, "DATA_DIR": data}
    shutil.rmtree(data)


@contextmanager
def up(environment: dict[str, str]) -> Iterator[Up]:
    """A stack from its start to after its end."""
    config = Config.parse(environment)
    command = [sys.executable, "-u", "-m", "stack"]
    path = config.data / "printed"
    with path.open("w") as output:
        supervisor = subprocess.Popen([*command, "up"], cwd=ROOT, env=environment, stdout=output)
    try:
        state = State(config.run)
        wait_until(state.ready, START_SECONDS, give_up=lambda: supervisor.poll() is not None)
        assert state.ready(), path.read_text()
        yield Up(supervisor, path.read_text(), family(state.owned()))
    finally:
        if supervisor.poll() is None:
            supervisor.terminate()
            supervisor.wait(STOP_SECONDS)
        subprocess.run([*command, "down"], cwd=ROOT, env=environment, check=True, capture_output=True)


def family(owned: list[Owned]) -> list[Owned]:
    """These processes with their children, and theirs."""
    members = [
        Owned.of(one.name, child.pid)
        for one in owned
        for child in (psutil.Process(one.pid), *psutil.Process(one.pid).children(recursive=True))
    ]
    return [member for member in members if member is not None]


def listed(environment: dict[str, str]) -> set[str]:
    """The sagas that the API knows."""
    with closing(HTTPConnection("127.0.0.1", int(environment["PORT_API"]), timeout=30)) as link:
        link.request("GET", "/api/v1/sagas", headers={"Authorization": "Token demo-operator-token"})
        return {saga["id"] for saga in json.load(link.getresponse())["results"]}


def test_a_stack_sells_twice_leaves_nothing_behind_and_keeps_its_data(environment: dict[str, str]) -> None:
    with up(environment) as first:
        assert re.search(r"^completed in \d+ ms, transaction_id \d+$", first.printed, re.MULTILINE)
        assert re.search(r"^compensated in \d+ ms, because create-transaction", first.printed, re.MULTILINE)
        sold = set(SAGA.findall(first.printed))
        assert len(sold) == 2
        names = {one.name for one in first.started}
        assert names >= {"supervisor", "postgres", "redis", "participants", "api", "worker", "beat", "flower"}

        first.supervisor.send_signal(signal.SIGINT)
        assert first.supervisor.wait(STOP_SECONDS) == 0
        assert [one for one in first.started if one.process() is not None] == []

    with up(environment) as second:
        assert listed(environment) == sold | set(SAGA.findall(second.printed))
