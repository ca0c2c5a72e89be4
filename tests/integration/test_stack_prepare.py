"""The databases are made ready under the environment of containers: no users, unless a demo is asked for."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import LiteralString

import psycopg
import pytest

from stack.config import ROOT
from stack.ports import free_port
from stack.servers import ServerUrls, throwaway
from tests.composing import REQUIRED, environment_of

USERS = "SELECT username FROM auth_user"


@pytest.fixture
def empty() -> Iterator[ServerUrls]:
    """Servers that hold nothing."""
    with throwaway() as urls:
        yield urls


def prepare(servers: ServerUrls, **given: str) -> subprocess.CompletedProcess[str]:
    """Runs what the service `prepare` runs, with its environment and the addresses of those servers."""
    environment = environment_of("prepare", REQUIRED | given)
    return run(environment | {"DATABASE_URL": servers.database, "REDIS_URL": servers.redis})


def run(environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stack.prepare"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def found(database: str, question: LiteralString) -> set[object]:
    with psycopg.connect(database) as connection:
        return {row[0] for row in connection.execute(question).fetchall()}


def test_containers_start_without_users_and_with_a_demo_if_they_are_told_to(empty: ServerUrls) -> None:
    backoffice, stores = f"{empty.database}_backoffice", f"{empty.database}_stores"
    plain = prepare(empty)
    assert plain.returncode == 0, plain.stdout
    assert "createsuperuser" in plain.stdout
    assert found(empty.database, "SELECT name FROM auth_group") == {"viewer", "client", "operator"}
    assert found(empty.database, USERS) == set()
    assert found(backoffice, USERS) == set()
    assert found(stores, "SELECT id FROM stores_store") == set()

    demo = prepare(empty, SEED_DEMO_USERS="1")
    assert demo.returncode == 0, demo.stdout
    assert found(empty.database, USERS) == {"admin", "viewer", "client", "operator"}
    assert found(backoffice, USERS) == {"admin"}
    assert found(stores, "SELECT id FROM stores_store") >= {1, 2}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"DATABASE_URL": f"postgresql://saga:saga@127.0.0.1:{free_port()}/x"}, "The database refused"),
        ({"DJANGO_SECRET_KEY": ""}, "Set DJANGO_SECRET_KEY"),
        ({"PORT_PARTICIPANTS": "eighty"}, "PORT_PARTICIPANTS"),
        ({"DATABASE_URL": "nonsense://x"}, "The configuration cannot be"),
    ],
)
def test_what_is_in_the_way_is_said_in_one_line(wrong: dict[str, str], says: str) -> None:
    done = run(environment_of("prepare", REQUIRED) | wrong)
    assert done.returncode == 1
    assert says in done.stdout
    assert done.stdout.count("\n") == 1, done.stdout
