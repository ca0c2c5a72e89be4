"""A shop behind real HTTP, for the tests that need one."""

from collections.abc import Iterator
from io import StringIO

import pytest
import redis
from django.core.management import call_command
from pytest_django import Settings
from pytest_django.plugin import DjangoDbBlocker

from sagas.conf import conf
from tests.serving import CREDENTIAL, participants_process


@pytest.fixture(scope="session")
def participants_url(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """One process of all participants, over the databases of this run."""
    with participants_process() as url:
        yield url


@pytest.fixture
def shop(transactional_db: None, participants_url: str, settings: Settings) -> None:
    """The demo shop, called by HTTP; circuits are closed and nobody misbehaves yet."""
    settings.SAGAS = settings.SAGAS | {
        "PARTICIPANTS": {
            name: {"url": f"{participants_url}/{name}", "credential": CREDENTIAL}
            for name in settings.PARTICIPANT_NAMES
        }
    }
    redis.Redis.from_url(conf().redis_url).flushdb()
    call_command("seed", stdout=StringIO())
