"""Servers for the whole run, started before Django reads its settings.

With TEST_DATABASE_URL or TEST_REDIS_URL set, that server is used instead of a throw-away one.
Under xdist the controller starts the servers and every worker takes databases of its own.
"""

import os
from contextlib import ExitStack

import pytest

from stack.errors import Trouble
from stack.servers import ServerUrls, throwaway

servers_of_run = ExitStack()


def pytest_configure(config: pytest.Config) -> None:
    """Points the settings at servers for tests, then lets pytest-django load them."""
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


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stops the servers that this run started."""
    servers_of_run.close()


def redis_database(url: str, worker: str) -> str:
    """The database of Redis that belongs to an xdist worker (`gw3` takes 4), or the URL itself."""
    return f"{url.rsplit('/', 1)[0]}/{int(worker.removeprefix('gw')) + 1}" if worker else url


@pytest.fixture(scope="session")
def servers() -> ServerUrls:
    """Where PostgreSQL and Redis of this run answer; tests that need no Django take this."""
    return ServerUrls(os.environ["DATABASE_URL"], os.environ["REDIS_URL"])
