"""A process that serves all participants needs few connections, and gets over their loss."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from urllib.parse import urlsplit

import psycopg
import pytest
from django.conf import settings

from sagaproject.settings import PARTICIPANT_NAMES
from tests.participants import at_once
from tests.serving import CREDENTIAL, served, url_of

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
CALLERS = 32
SHARED = 4  # PARTICIPANTS_POOL_SIZE by default
BASKET = {"store_id": 1, "items": [{"product_id": 456, "quantity": 2}]}


@pytest.fixture
def port(transactional_db: None) -> Iterator[int]:
    """Where a process with more threads than connections answers."""
    databases = {f"{name.upper()}_DATABASE_URL": url_of(name) for name in PARTICIPANT_NAMES}
    credential = {"PARTICIPANT_CREDENTIALS": CREDENTIAL}
    with served("sagaproject.participant_wsgi:application", databases | credential) as (url, _):
        yield urlsplit(url).port or 0


@pytest.fixture
def server() -> Iterator[psycopg.Connection[tuple[int]]]:
    """A connection that sees those of others."""
    with psycopg.connect(url_of("default"), autocommit=True) as connection:
        yield connection


def backends(server: psycopg.Connection[tuple[int]]) -> set[int]:
    """The connections to the participants' databases."""
    names = [settings.DATABASES[name]["NAME"] for name in PARTICIPANT_NAMES]
    asked = "SELECT pid FROM pg_stat_activity WHERE datname = ANY(%s)"
    return {pid for (pid,) in server.execute(asked, [names]).fetchall()}


def ask(port: int, method: str, path: str, body: object = None, key: str = "") -> int:
    """The status of one answer."""
    link = HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Authorization": f"Bearer {CREDENTIAL}", "Idempotency-Key": key}
    try:
        link.request(method, path, json.dumps(body) if body is not None else None, headers)
        return link.getresponse().status
    finally:
        link.close()


def test_threads_share_connections(port: int, server: psycopg.Connection[tuple[int]]) -> None:
    others = backends(server)

    def probe_and_ask(number: int) -> list[int]:
        name = PARTICIPANT_NAMES[number % len(PARTICIPANT_NAMES)]
        return [ask(port, "GET", path) for path in ("/health", f"/{name}/saga/operations/x", "/health")]

    answers = at_once(CALLERS, probe_and_ask)
    assert answers == [[200, 200, 200]] * CALLERS
    opened = backends(server) - others
    assert len(PARTICIPANT_NAMES) <= len(opened) <= SHARED * len(PARTICIPANT_NAMES)


def test_connections_that_died_together_are_renewed_together(
    port: int, server: psycopg.Connection[tuple[int]]
) -> None:
    others = backends(server)
    at_once(CALLERS, lambda _: ask(port, "POST", "/saga/reserve-stock", BASKET, "warm"))
    opened = backends(server) - others
    server.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", [list(opened)])
    # Refused, since there is no such stock; but not once 503.
    answers = [ask(port, "POST", "/saga/reserve-stock", BASKET, f"key-{number}") for number in range(SHARED)]
    assert answers == [422] * SHARED
