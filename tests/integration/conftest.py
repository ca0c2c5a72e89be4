"""A shop behind real HTTP, for the tests that need one."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from io import StringIO
from uuid import UUID

import pytest
import redis
from django.core.management import call_command
from pytest_django import Settings
from pytest_django.plugin import DjangoDbBlocker

from sagas import dispatch
from sagas.conf import conf
from sagas.state import SagaState
from tests.receiving import Receiver
from tests.scripted import Scripted, scripted_participant
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


@pytest.fixture
def scripted(transactional_db: None, settings: Settings) -> Iterator[Scripted]:
    """A participant called `shop` that does what the test tells it; circuits are closed."""
    with scripted_participant() as participant:
        settings.SAGAS = settings.SAGAS | {"PARTICIPANTS": {"shop": {"url": participant.url}}}
        redis.Redis.from_url(conf().redis_url).flushdb()
        yield participant


@pytest.fixture
def bells(monkeypatch: pytest.MonkeyPatch) -> list[tuple[UUID, tuple[int, ...]]]:
    """What was rung for, instead of ringing."""
    rung: list[tuple[UUID, tuple[int, ...]]] = []

    def ring(state: SagaState, due: Sequence[int], now: datetime) -> None:
        if due:
            rung.append((state.id, tuple(due)))

    monkeypatch.setattr(dispatch, "ring", ring)
    return rung


@pytest.fixture
def brisk(settings: Settings, shop: None) -> None:
    """A choreography in which nobody waits for a redelivery."""
    settings.CHOREOGRAPHY = settings.CHOREOGRAPHY | {
        "BACKOFF": timedelta(0),
        "CLAIM_AFTER": timedelta(0),
        "CALL_TIMEOUT": timedelta(seconds=1),
    }


@pytest.fixture
def receiver(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """Somebody's server, which webhooks may reach."""
    monkeypatch.setattr(dispatch, "_send", lambda state, due, now: None)
    settings.SAGAS = settings.SAGAS | {"WEBHOOKS_PRIVATE": True}
    with Receiver.running() as server:
        yield server
