"""Server-sent events of one saga."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth import get_user_model
from django.db import OperationalError
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

from sagas import dispatch, engine
from sagas.api import progress
from sagas.api.progress import Places
from sagas.definition import registry
from sagas.models import SagaEvent
from tests import stories
from tests.api import caller
from tests.engine import counted
from tests.serving import served, url_of

pytestmark = pytest.mark.django_db
EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture
def viewer(monkeypatch: pytest.MonkeyPatch) -> APIClient:
    monkeypatch.setattr(dispatch, "_send", lambda state, due, now: None)
    return caller("viewer")


def ask(client: APIClient, saga_id: UUID, after: int | None = None) -> Any:
    headers = EVENTS if after is None else EVENTS | {"Last-Event-ID": str(after)}
    return client.get(f"/api/v1/sagas/{saga_id}/events", headers=headers)


def events(lines: Iterator[bytes]) -> Iterator[dict[str, str]]:
    """Each event as its fields; comments and `retry` are left out."""
    for chunk in lines:
        for block in chunk.decode().strip().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if "event" in fields:
                yield fields


@pytest.mark.django_db(transaction=True)  # closing an answer closes its connection
def test_the_whole_story_of_a_saga_that_has_ended(viewer: APIClient) -> None:
    state = stories.refused()
    answer = ask(viewer, state.id)
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/event-stream")
    assert answer["Cache-Control"] == "no-store"
    told = list(events(iter(answer)))
    answer.close()
    rows = SagaEvent.objects.filter(saga=state.id).order_by("id")
    assert [(e["id"], json.loads(e["data"])["kind"]) for e in told[:-1]] == [
        (str(row.id), row.kind) for row in rows
    ]
    turned = next(json.loads(e["data"]) for e in told if '"saga_turned"' in e["data"])
    assert (turned["step"], turned["code"]) == ("create-transaction", "insufficient_funds")
    assert (told[-1]["event"], json.loads(told[-1]["data"])) == ("end", {"status": "compensated"})


def test_who_comes_back_misses_nothing_and_is_told_when_there_is_no_more(viewer: APIClient) -> None:
    state = stories.completed()
    ids = list(SagaEvent.objects.filter(saga=state.id).order_by("id").values_list("id", flat=True))
    told = list(events(iter(ask(viewer, state.id, ids[3]))))
    assert [int(event["id"]) for event in told[:-1]] == ids[4:]
    assert ask(viewer, state.id, ids[-1]).status_code == 204
    assert ask(viewer, state.id, 10**18).status_code == 204
    assert viewer.get(f"/api/v1/sagas/{state.id}/events", headers={"Last-Event-ID": "x"}).status_code == 200


def test_a_running_saga_is_followed_to_its_end(viewer: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FIRST_PAUSE", 0.0)
    state = stories.claimed()
    told = events(iter(ask(viewer, state.id)))
    seen = [json.loads(next(told)["data"])["kind"] for _ in range(4)]
    assert seen == ["saga_started", "step_claimed", "step_completed", "step_claimed"]
    after = engine.record(registry.get("sales_saga", 1), state, 1, stories.RESERVED).state
    assert json.loads(next(told)["data"])["kind"] == "step_completed"
    assert after is not None
    stories.play(after, [stories.CREATED, stories.CONFIRMED, stories.FINAL])
    rest = [event["event"] for event in told]
    assert (set(rest[:-1]), rest[-1]) == ({"progress"}, "end")


def test_a_quiet_saga_costs_one_statement_a_look_and_shows_that_it_is_followed(
    viewer: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(progress, "HEARTBEAT", 0.0)
    lines = iter(ask(viewer, stories.parked().id))
    assert [next(lines)[:5], next(lines)[:3], next(lines)] == [b"retry", b"id:", b": still here\n\n"]
    assert len(counted(lambda: next(lines))) == 1


def test_a_stream_ends_in_time_with_the_server_and_without_the_database(
    viewer: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    saga_id = stories.parked().id

    def events_of() -> list[str]:
        return [event["event"] for event in events(iter(ask(viewer, saga_id)))]

    with monkeypatch.context() as patch:
        patch.setattr(progress, "LONGEST", 0.0)
        assert events_of() == []
    progress.closing.set()
    try:
        assert events_of() == []
    finally:
        progress.closing.clear()
    answer = ask(viewer, saga_id)

    def away(*_: Any) -> Any:
        raise OperationalError("secret")

    monkeypatch.setattr(progress, "look", away)
    assert list(events(iter(answer))) == []


@pytest.mark.django_db(transaction=True)
def test_streams_are_bounded_in_all_and_for_each(viewer: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "places", Places(3, 2))
    saga_id = stories.completed().id
    mine = [ask(viewer, saga_id) for _ in range(2)]
    refused = ask(viewer, saga_id)
    assert (refused.status_code, refused["Content-Type"]) == (429, "application/problem+json")
    another = ask(caller("viewer", "another"), saga_id)
    assert another.status_code == 200
    assert ask(caller("operator"), saga_id).status_code == 429
    mine[0].close()  # without having been read
    mine[0].close()
    assert ask(caller("operator"), saga_id).status_code == 200
    assert ask(viewer, saga_id).status_code == 429


def test_only_who_may_see_a_saga_may_follow_it(viewer: APIClient) -> None:
    saga_id = stories.completed().id
    assert ask(caller("client"), saga_id).status_code == 404
    assert ask(APIClient(), saga_id).status_code == 401
    assert ask(viewer, UUID(int=0)).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_a_real_server_streams_at_once_and_is_not_kept_from_ending() -> None:
    state = stories.claimed()
    token = Token.objects.create(user=get_user_model().objects.create_superuser("olga")).key
    with served("sagaproject.wsgi:application", {"DATABASE_URL": url_of("default")}) as (url, server):
        connection = HTTPConnection(url.removeprefix("http://"), timeout=20)
        path, headers = f"/api/v1/sagas/{state.id}/events", EVENTS | {"Authorization": f"Token {token}"}
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        assert b"saga_started" in read_until(answer, b'"step_claimed", "step": "reserve-stock"')
        engine.record(registry.get("sales_saga", 1), state, 1, stories.RESERVED)
        read_until(answer, b'"step_completed", "step": "reserve-stock"')
        server.send_signal(signal.SIGTERM)
        assert b"event: end" not in answer.read()
        assert server.wait(20) == 0
        connection.close()


def read_until(answer: HTTPResponse, word: bytes) -> bytes:
    """What arrives, up to a word; the connection's time-out is the bound."""
    text = b""
    while word not in text:
        line = answer.readline()
        assert line, text
        text += line
    return text
