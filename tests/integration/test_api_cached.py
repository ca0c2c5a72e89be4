"""What is answered from the cache (finished sagas), from memory (definitions), and from neither (304)."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import redis
from django.contrib.auth import get_user_model
from django.core.cache import cache
from pytest_django import Settings

from sagas import dispatch, engine
from sagas.api import revisions
from sagas.models import Saga
from sagas.state import SagaState
from tests import stories
from tests.api import SAGAS, caller
from tests.engine import counted

pytestmark = pytest.mark.django_db
KEYS = "*sagas:answer:*"


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[redis.Redis]:
    """The cache without answers, which nobody has found broken; nothing is rung for."""
    monkeypatch.setattr(dispatch, "_send", lambda state, due, now: None)
    monkeypatch.setattr(revisions._Rest, "until", 0.0)
    with redis.Redis.from_url(settings.REDIS_URL) as connection:
        for key in connection.scan_iter(KEYS):
            connection.delete(key)
        yield connection


def path(state: SagaState) -> str:
    return f"{SAGAS}/{state.id}"


def loads(statements: list[str]) -> int:
    """How many of the statements read a saga with its steps."""
    return sum("sagas_sagastep" in statement for statement in statements)


def test_a_finished_saga_is_answered_from_the_cache(empty_cache: redis.Redis) -> None:
    state, viewer = stories.completed(), caller("viewer")
    first = viewer.get(path(state))
    (key,) = empty_cache.scan_iter(KEYS)
    assert json.loads(json.loads(empty_cache.get(key) or b"")) == first.json()
    answers: list[Any] = []
    assert loads(counted(lambda: answers.append(viewer.get(path(state))))) == 0
    assert (answers[0].content, answers[0]["ETag"]) == (first.content, first["ETag"])
    assert answers[0]["Content-Type"] == first["Content-Type"] == "application/json"
    assert answers[0]["Cache-Control"] == "private, no-cache"


def test_it_is_another_once_it_is_undone() -> None:
    state, viewer = stories.completed(), caller("viewer")
    before = viewer.get(path(state))
    engine.compensate(state.id, actor="olga", reason="returned")
    turned = viewer.get(path(state), headers={"If-None-Match": before["ETag"]})
    assert (turned.status_code, turned.json()["status"]) == (200, "compensating")
    stories.play(engine.load(state.id), [stories.UNDONE] * 4)
    assert viewer.get(path(state)).json()["status"] == "compensated"


def test_a_saga_that_has_not_finished_is_always_read(empty_cache: redis.Redis) -> None:
    viewer = caller("viewer")
    for story in (stories.sale, stories.claimed, stories.undoing, stories.parked):
        read = partial(viewer.get, path(story()))
        assert [loads(counted(read)) for _ in range(2)] == [1, 1]
    assert list(empty_cache.scan_iter(KEYS)) == []


def test_who_may_not_see_it_gets_nothing_out_of_the_cache() -> None:
    state = stories.completed()
    assert caller("viewer").get(path(state)).status_code == 200
    assert caller("client").get(path(state)).status_code == 404
    client = get_user_model().objects.get(username="client")
    Saga.objects.filter(id=state.id).update(owner_id=client.pk)
    assert caller("client").get(path(state)).status_code == 200


@pytest.mark.parametrize("story", ["completed", "undoing"])
def test_who_has_it_already_is_told_so_without_reading_it(story: str) -> None:
    state, viewer = getattr(stories, story)(), caller("viewer")
    tag = viewer.get(path(state))["ETag"]
    answers: list[Any] = []
    headers = {"If-None-Match": f'"other", W/{tag}'}
    assert loads(counted(lambda: answers.append(viewer.get(path(state), headers=headers)))) == 0
    assert (answers[0].status_code, answers[0].content, answers[0]["ETag"]) == (304, b"", tag)


@pytest.fixture
def silent(settings: Settings) -> Iterator[list[socket.socket]]:
    """A Redis that accepts connections and then says nothing; tells who came."""
    came: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    came.append(server.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        location = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        settings.CACHES = {"default": settings.CACHES["default"] | {"LOCATION": location}}
        yield came
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        for link in came:
            link.close()


def test_a_cache_that_does_not_answer_is_left_alone(silent: list[socket.socket]) -> None:
    state, viewer = stories.completed(), caller("viewer")
    for _ in range(3):
        assert viewer.get(path(state)).json()["status"] == "completed"
    assert len(silent) == 1


def test_what_lies_in_the_cache_is_json(empty_cache: redis.Redis) -> None:
    cache.set("of-a-test", {"a": [1, "é", None]}, 5)
    assert json.loads(empty_cache.get(cache.make_key("of-a-test")) or b"") == {"a": [1, "é", None]}
    assert cache.get("of-a-test") == {"a": [1, "é", None]}


def test_definitions_change_with_a_pause_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PAUSES_KNOWN_FOR", -1.0)
    operator, where = caller("operator"), "/api/v1/definitions"
    first = operator.get(where)
    tag = first["ETag"]
    assert operator.get(where, headers={"If-None-Match": tag}).status_code == 304
    operator.post(f"{where}/sales_saga/pause", {"reason": "stocktaking"}, format="json")
    paused = operator.get(where, headers={"If-None-Match": tag})
    assert paused.status_code == 200
    assert [one["type"] for one in paused.json()["results"] if one["paused"]] == ["sales_saga"]
    operator.post(f"{where}/sales_saga/resume", {"reason": "counted"}, format="json")
    assert operator.get(where).content == first.content
