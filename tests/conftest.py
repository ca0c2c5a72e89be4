"""Servers for the whole run, started before Django reads its settings.

With TEST_DATABASE_URL or TEST_REDIS_URL set, that server is used instead of a throw-away one.
Under xdist the controller starts the servers and every worker takes databases of its own.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import django
import pytest
from django.db import connection, transaction

from stack.errors import Trouble
from stack.servers import ServerUrls, throwaway

servers_of_run = ExitStack()


def pytest_configure(config: pytest.Config) -> None:
    """Points the settings at servers for tests, then lets Django read them."""
    database, redis = os.environ.get("TEST_DATABASE_URL"), os.environ.get("TEST_REDIS_URL")
    if not database or not redis:
        try:
            urls = servers_of_run.enter_context(throwaway())
        except Trouble as trouble:
            pytest.exit(str(trouble), returncode=pytest.ExitCode.USAGE_ERROR)
        database, redis = database or urls.database, redis or urls.redis
        # Workers of xdist inherit the environment, and so share what the controller started.
        os.environ["TEST_DATABASE_URL"], os.environ["TEST_REDIS_URL"] = database, redis
    os.environ["DATABASE_URL"] = database
    os.environ["REDIS_URL"] = redis_database(redis, os.environ.get("PYTEST_XDIST_WORKER", ""))
    os.environ["DJANGO_SETTINGS_MODULE"] = "sagaproject.settings"
    django.setup()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stops the servers that this run started."""
    servers_of_run.close()


def redis_database(url: str, worker: str) -> str:
    """The database of Redis that belongs to an xdist worker (`gw3` takes 4), or the URL itself."""
    return f"{url.rsplit('/', 1)[0]}/{int(worker.removeprefix('gw')) + 1}" if worker else url


@pytest.fixture(scope="session", autouse=True)
def flush_of_append_only_tables() -> Iterator[None]:
    """Lets the flush between tests empty the audit table, whose trigger refuses that to everyone else."""
    operations = type(connection.ops)
    plain = operations.execute_sql_flush

    def flush(self: Any, sql_list: Sequence[str]) -> None:
        alias = self.connection.alias
        with transaction.atomic(using=alias), self.connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")
            plain(self, sql_list)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operations, "execute_sql_flush", flush)
        yield


@pytest.fixture(scope="session")
def servers() -> ServerUrls:
    """Where PostgreSQL and Redis of this run answer; tests that need no Django take this."""
    return ServerUrls(os.environ["DATABASE_URL"], os.environ["REDIS_URL"])
