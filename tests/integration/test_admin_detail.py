"""The page of one saga in the admin: facts, steps with their compensations, audit."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from sagas import engine
from sagas.admin import audit, picture, timeline
from sagas.models import Saga
from sagas.state import SagaState, Status
from tests import stories
from tests.definitions import Group
from tests.engine import registered

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore:No directory at:UserWarning"),  # static files were not collected
]


def page(client: Client, state: SagaState, **query: str) -> str:
    """The page of a saga, entities resolved."""
    answer = client.get(reverse("admin:sagas_saga_change", args=[state.id]), query)
    assert answer.status_code == 200
    return html.unescape(answer.content.decode())


def rows(state: SagaState) -> list[timeline.Row]:
    saga = Saga.objects.get(pk=state.id)
    return timeline.rows(saga, list(saga.steps.order_by("position")), engine.clock.now())


def test_the_page_has_input_result_error_and_ids(admin_client: Client) -> None:
    done = stories.play(stories.sale(correlation_id="order-4711"), stories.SALE)
    text = page(admin_client, done)
    for told in (
        "sales_saga",
        "completed",
        "order-4711",
        str(done.id),
        '"product_id": 456',
        '"transaction_id": 7',
    ):
        assert told in text
    refused = page(admin_client, stories.refused())
    assert "insufficient_funds" in refused
    assert "the customer has 12.00 EUR" in refused


def test_every_step_is_a_row_with_its_compensation(admin_client: Client) -> None:
    state = stories.refused()
    text = page(admin_client, state)
    names = (
        "validate-employee invalidate-session reserve-stock release-stock create-transaction "
        "cancel-transaction confirm-stock reverse-stock-confirmation confirm-transaction"
    )
    assert [n for n in re.findall(r'class="saga-name">([^<]+)<', text)] == names.split()
    told = [(row.name, row.status, row.attempts) for row in rows(state)]
    assert told == [
        ("validate-employee", "completed", "1"),
        ("reserve-stock", "completed", "1"),
        ("create-transaction", "failed", "1"),
        ("confirm-stock", "skipped", ""),
        ("confirm-transaction", "skipped", ""),
    ]
    undone = [row.compensation.label if row.compensation else None for row in rows(state)]
    assert undone == ["undone", "undone", "", "", None]


def drawn(client: Client, state: SagaState) -> tuple[list[tuple[str, str]], list[str]]:
    """The boxes of the picture, name and status, and the names of those that are marked as current."""
    found = re.findall(
        r'<g class="saga-box ([^"]*)">\s*<rect[^>]*>\s*<text[^>]*>([^<]*)</text>\s*<text[^>]*>([^<]*)</text>',
        page(client, state),
    )
    return [(name, word) for _, name, word in found], [name for look, name, _ in found if "saga-now" in look]


def test_the_picture_has_every_step_with_its_compensation(admin_client: Client) -> None:
    boxes, now = drawn(admin_client, stories.refused())
    assert boxes == [
        ("validate-employee", "completed"),
        ("invalidate-session", "undone"),
        ("reserve-stock", "completed"),
        ("release-stock", "undone"),
        ("create-transaction", "failed"),
        ("cancel-transaction", "not needed"),
        ("confirm-stock", "skipped"),
        ("reverse-stock-confirmation", "not needed"),
        ("confirm-transaction", "skipped"),
    ]
    assert now == []


def turned() -> SagaState:
    """A sale whose first compensation no worker has begun yet."""
    return stories.play(stories.sale(), [stories.SESSION, stories.RESERVED, stories.NO_FUNDS])


@pytest.mark.parametrize(
    ("story", "current", "word"),
    [
        (stories.sale, "validate-employee", "pending"),
        (stories.claimed, "reserve-stock", "in progress"),
        (stories.backing_off, "create-transaction", "retrying"),
        (stories.parked, "reserve-stock", "parked"),
        (turned, "release-stock", "to undo"),
        (stories.undoing, "release-stock", "retrying"),
        (stories.undo_refused, "release-stock", "not undone"),
    ],
)
def test_the_picture_marks_where_the_saga_is(
    admin_client: Client, story: Callable[[], SagaState], current: str, word: str
) -> None:
    state = story()
    boxes, now = drawn(admin_client, state)
    assert (now, dict(boxes)[current]) == ([current], word)
    assert f" at {current} ({word})" in page(admin_client, state)


def test_members_of_a_group_stand_below_each_other(admin_client: Client) -> None:
    with registered(Group):
        state = engine.start("group", {}).state
        made = picture.draw(Group(), rows(state), state.status)
        assert "before" in page(admin_client, state)
    before, left, right, join = (b for b in made.boxes if not b.undo)
    assert before.x < left.x == right.x < join.x
    assert before.y == left.y == join.y < right.y
    undos = {box.name: box for box in made.boxes if box.undo}
    assert left.y < undos["undo-left"].y < right.y < undos["undo-right"].y
    assert len(made.arrows) == 4
    assert made.height >= max(box.y + box.height for box in made.boxes)
    assert made.width >= max(box.x + box.width for box in made.boxes)


def test_the_chart_is_there_in_mermaid_too(admin_client: Client) -> None:
    text = page(admin_client, stories.claimed())
    assert "flowchart TD" in text
    assert "class s1 current" in text


def test_a_step_shows_request_key_and_what_it_waits_for() -> None:
    waiting = rows(stories.backing_off())[2]
    assert waiting.call == "POST /saga/create-transaction"
    assert waiting.participant == "transactions"
    assert '"payment_method": "card"' in waiting.body
    assert waiting.key.endswith(":create-transaction:action:0")
    assert waiting.note.startswith("next attempt in ")
    assert "effect unknown" in waiting.tags
    assert rows(stories.claimed())[1].note == "a worker is on it"


def test_what_is_left_to_undo_is_named_in_order(admin_client: Client) -> None:
    state = stories.undo_refused()
    left = timeline.left_to_undo(rows(state))
    assert [undo.name for undo in left] == ["release-stock", "invalidate-session"]
    assert "Not undone yet" in page(admin_client, state)


def test_a_new_generation_is_shown_after_a_retry() -> None:
    again = engine.retry(stories.refused().id, actor="olga", reason="paid in", request_id="r1").state
    assert again is not None
    done = stories.play(again, stories.SALE)
    assert [row.generation for row in rows(done)][:3] == [1, 1, 1]


def test_bars_lie_within_the_lane() -> None:
    for story in (stories.completed, stories.refused, stories.claimed, stories.undo_refused, stories.parked):
        made = rows(story())
        bars = [r.bar for row in made for r in (row, row.compensation) if r is not None and r.bar is not None]
        assert bars
        assert all(float(b.x) >= 0 and float(b.x) + float(b.width) <= 100.01 for b in bars)


def test_the_audit_tells_who_why_when_what(admin_client: Client) -> None:
    state = stories.parked()
    engine.compensate(state.id, actor="olga", reason="the customer has left", request_id="r1")
    text = page(admin_client, state)
    for told in ("olga", "the customer has left", "saga parked", "compensate", "saga turned"):
        assert told in text


def test_what_comes_from_outside_is_escaped(admin_client: Client) -> None:
    state = stories.undo_refused()
    engine.retry(state.id, actor="<i>x</i>", reason="<script>alert(1)</script>", request_id="r1")
    raw = admin_client.get(reverse("admin:sagas_saga_change", args=[state.id])).content.decode()
    assert "<script>alert" not in raw
    assert "<b>sale</b>" not in raw
    assert "<i>x</i>" not in raw


def test_a_long_audit_comes_in_pages(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PAGE", 4)
    state = stories.completed()
    text = page(admin_client, state)
    assert "saga started" not in text
    older = re.search(r"\?before=(\d+)#audit", text)
    while older is not None:
        text = page(admin_client, state, before=older[1])
        older = re.search(r"\?before=(\d+)#audit", text)
    assert "saga started" in text
    assert page(admin_client, state, before="nonsense")


def test_the_page_costs_few_queries(admin_client: Client) -> None:
    state = stories.refused()
    page(admin_client, state)
    with CaptureQueriesContext(connection) as queries:
        page(admin_client, state)
    # session, user; saga with owner, steps, children, state for the buttons, audit
    assert len(queries) <= 7


@pytest.mark.parametrize("wrong", ["01a1fbff-98ef-70de-8ed6-baf000f87df5", "nonsense", "1", "a" * 300])
def test_an_unknown_saga_leads_back_to_the_list(admin_client: Client, wrong: str) -> None:
    answer = admin_client.get(f"/admin/sagas/saga/{wrong}/change/", follow=True)
    assert answer.redirect_chain[-1][0] == "/admin/sagas/saga/"
    assert "There is no saga" in answer.content.decode()


def test_a_saga_whose_code_is_gone_can_be_looked_at(admin_client: Client) -> None:
    state = stories.parked()
    Saga.objects.filter(pk=state.id).update(version=99)
    text = page(admin_client, state)
    assert "no code for sales_saga version 99" in text
    assert 'class="saga-picture"' in text
    assert "flowchart" not in text
    assert admin_client.get("/admin/sagas/saga/").status_code == 200


def test_the_history_is_the_audit(admin_client: Client) -> None:
    state = stories.parked()
    answer = admin_client.get(f"/admin/sagas/saga/{state.id}/history/")
    assert answer.headers["Location"].endswith(f"{state.id}/change/#audit")
    assert state.status is Status.PARKED
