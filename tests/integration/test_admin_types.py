"""Pausing and resuming a whole type: from the admin, with a reason, by who may, and kept."""

from __future__ import annotations

import html
from collections.abc import Iterator
from datetime import datetime, timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.test import Client

from sagas import engine
from sagas.definition import registry
from sagas.models import Saga, TypeEvent, TypePause
from tests import stories
from tests.engine import put_back
from tests.integration.test_admin_interventions import logged_in

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore:No directory at:UserWarning"),  # static files were not collected
]
LIST = "/admin/sagas/typepause/"
PAUSE, RESUME = f"{LIST}sales_saga/pause/", f"{LIST}sales_saga/resume/"


@pytest.fixture(autouse=True)
def nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pauses are read anew every time, and none is known to the tests behind this one."""
    monkeypatch.setattr(engine, "PAUSES_KNOWN_FOR", -1.0)
    yield
    TypePause.objects.all().delete()
    engine.paused_types()


@pytest.fixture
def operator(client: Client) -> Client:
    """One who may look and steer."""
    return logged_in(client, "olga", "view_saga", "steer_saga")


def page(client: Client, url: str = LIST) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return html.unescape(answer.content.decode())


def test_every_type_is_listed_with_what_is_on_its_way(operator: Client) -> None:
    stories.claimed()
    told = page(operator)
    assert all(f"<code>{name}</code>" in told for name in registry.types())
    assert '<td class="saga-count-cell">1</td>' in told
    assert told.count(">runs<") == len(registry.types())


def test_an_operator_pauses_and_resumes_a_type(operator: Client) -> None:
    saga = stories.sale()
    assert "has 1 saga on its way" in page(operator, PAUSE)
    told = operator.post(PAUSE, {"reason": "stock is counted"}, follow=True).content.decode()
    assert "sales_saga is paused." in told
    assert "stock is counted" in told
    assert engine.paused_types() == {"sales_saga"}
    assert "sales_saga</b> is paused" in page(operator, "/admin/sagas/saga/")
    put_back(saga.id, "wake_at")
    assert engine.take_interrupted(10) == []

    assert "Paused by olga" in page(operator, RESUME)
    told = operator.post(RESUME, {"reason": "counted"}, follow=True).content.decode()
    assert "sales_saga goes on" in told
    assert engine.take_interrupted(10) == [saga.id]
    kept = list(TypeEvent.objects.order_by("id").values_list("type", "kind", "actor", "reason"))
    assert kept == [
        ("sales_saga", "paused", "olga", "stock is counted"),
        ("sales_saga", "resumed", "olga", "counted"),
    ]
    assert "stock is counted" in told


@pytest.mark.parametrize("url", [PAUSE, RESUME])
def test_nothing_is_done_without_a_reason(operator: Client, url: str) -> None:
    answer = operator.post(url, {"reason": " "})
    assert "Say why" in answer.content.decode()
    assert not TypeEvent.objects.exists()


def test_who_may_only_look_is_offered_nothing_and_refused(client: Client) -> None:
    looker = logged_in(client, "lena", "view_saga")
    assert PAUSE not in page(looker)
    assert looker.get(PAUSE).status_code == 403
    assert looker.post(PAUSE, {"reason": "why not"}).status_code == 403
    assert not TypePause.objects.exists()


def test_who_may_not_look_sees_nothing(client: Client) -> None:
    assert logged_in(client, "otto").get(LIST).status_code == 403


@pytest.mark.parametrize("url", [f"{LIST}no_saga/pause/", f"{LIST}sales_saga/delete/"])
def test_what_is_not_there_is_not_found(operator: Client, url: str) -> None:
    assert operator.post(url, {"reason": "why not"}).status_code == 404


def test_a_second_pause_keeps_the_first_ones_reason(operator: Client) -> None:
    engine.pause_type("sales_saga", actor="ann", reason="release")
    told = operator.post(PAUSE, {"reason": "me too"}, follow=True).content.decode()
    assert "was paused before; nothing was changed" in told
    assert TypePause.objects.get().reason == "release"
    assert TypeEvent.objects.count() == 1


def test_a_type_without_code_here_can_still_be_resumed(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.pause_type("sales_saga", actor="ann", reason="release")
    monkeypatch.setattr(registry, "by_key", {})
    assert "none here" in page(operator)
    operator.post(RESUME, {"reason": "gone"})
    assert not TypePause.objects.exists()


def test_rule_20_a_pause_moves_deadlines_on_by_its_length() -> None:
    saga = stories.sale()
    engine.pause_type("sales_saga", actor="ann", reason="release")
    TypePause.objects.update(at=datetime.now(engine.clock.now().tzinfo) - timedelta(hours=1))
    Saga.objects.filter(id=saga.id).update(created_at=engine.clock.now() - timedelta(hours=2))
    assert engine.resume_type("sales_saga", actor="ann", reason="released")
    before, after = saga.deadline_at, engine.load(saga.id).deadline_at
    assert before is not None
    assert after is not None
    assert timedelta(minutes=59) < after - before < timedelta(minutes=70)
    assert not engine.resume_type("sales_saga", actor="ann", reason="again")


def test_the_command_line_says_what_it_changed() -> None:
    said = StringIO()
    for command in ("pause-type", "pause-type", "resume-type", "resume-type"):
        call_command("sagas", command, "sales_saga", "--reason", "release", stdout=said)
    assert [line.split(" ", 1)[1].split(";")[0] for line in said.getvalue().splitlines()] == [
        "is paused",
        "was paused before",
        "goes on with the next recovery scan",
        "was not paused",
    ]
    assert TypeEvent.objects.count() == 2
