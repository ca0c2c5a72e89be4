"""The list of sagas, its filters and search, and the heartbeats, as operators see them in the admin."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from sagas import engine
from sagas.admin import paging
from sagas.admin.looks import human
from sagas.admin.paging import id_range
from sagas.models import Saga, SagaLock, SagaStep, first_id
from sagas.state import SagaState, Status
from tests import stories

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore:No directory at:UserWarning"),  # static files were not collected
]
LIST = "/admin/sagas/saga/"


@pytest.fixture
def browser(client: Client) -> Client:
    """A client logged in as one who may look at everything and do nothing."""
    viewer = User.objects.create_user("vera", is_staff=True)
    names = ("view_saga", "view_heartbeat")
    viewer.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(viewer)
    return client


def old_saga(age: timedelta, status: Status, **fields: object) -> Saga:
    """A row as a saga left it some time ago; the engine itself cannot start one in the past."""
    at = datetime.now(UTC) - age
    made = Saga(
        id=UUID(int=first_id(at).int | uuid4().int >> 54),
        type="sales_saga",
        version=1,
        status=status,
        data={},
        created_at=at,
        correlation_id=f"old-{age}",
        **fields,
    )
    made.save(force_insert=True)
    return made


def shown(browser: Client, **query: str) -> set[str]:
    """The ids that the list shows."""
    answer = browser.get(LIST, query)
    assert answer.status_code == 200
    return set(re.findall(r'<code title="([0-9a-f-]{36})">', answer.content.decode()))


def ids(*states: SagaState | Saga) -> set[str]:
    return {str(state.id) for state in states}


def row(browser: Client, state: SagaState) -> str:
    """The text of one saga's row, tags removed."""
    page = browser.get(LIST).content.decode()
    cells = next(part for part in page.split("<tr>") if str(state.id) in part)
    return " ".join(re.sub(r"<[^>]+>", " ", cells.split("</tr>")[0]).split())


@pytest.mark.parametrize(
    ("story", "words"),
    [
        (stories.completed, "completed"),
        (stories.refused, "compensated create-transaction insufficient_funds"),
        (stories.failed, "failed validate-employee employee_inactive"),
        (stories.claimed, "in progress reserve-stock"),
        (stories.backing_off, "in progress create-transaction"),
        (stories.parked, "parked reserve-stock http_403"),
        (stories.undoing, "compensating release-stock insufficient_funds"),
        (stories.undo_refused, "compensation failed release-stock insufficient_funds"),
        (stories.sale, "pending validate-employee"),
    ],
)
def test_a_row_tells_status_current_step_and_error(
    browser: Client, story: Callable[[], SagaState], words: str
) -> None:
    state = story()
    told = row(browser, state)
    assert str(state.id)[:18] in told
    assert all(part in told for part in words.split()), told


@pytest.mark.parametrize("status", [*Status, "active"])
def test_filter_by_status(browser: Client, status: str) -> None:
    made = [stories.completed(), stories.refused(), stories.failed(), stories.claimed(), stories.parked()]
    active = (Status.PENDING, Status.IN_PROGRESS, Status.COMPENSATING)
    wanted = [s for s in made if (s.status in active if status == "active" else s.status == status)]
    assert shown(browser, status=status) == ids(*wanted)


def test_filter_by_what_needs_a_person(browser: Client) -> None:
    wanted = ids(stories.parked(), stories.undo_refused())
    stories.claimed()
    assert shown(browser, attention="person") == wanted


def test_stuck_is_what_moves_in_name_only(browser: Client) -> None:
    fresh = stories.claimed()
    stuck = old_saga(timedelta(minutes=6), Status.IN_PROGRESS)
    old_saga(timedelta(minutes=6), Status.IN_PROGRESS, paused_at=datetime.now(UTC))
    old_saga(timedelta(minutes=6), Status.COMPLETED)
    assert shown(browser, attention="stuck") == ids(stuck)
    assert str(fresh.id) not in shown(browser, attention="stuck")


def test_filter_by_deadline(browser: Client) -> None:
    stories.claimed()
    late = old_saga(timedelta(hours=1), Status.IN_PROGRESS, deadline_at=datetime.now(UTC))
    assert shown(browser, attention="overdue") == ids(late)


def test_filters_by_age_and_type_combine(browser: Client) -> None:
    now, hours = stories.completed(), old_saga(timedelta(hours=2), Status.COMPLETED)
    days = old_saga(timedelta(days=2), Status.FAILED)
    assert shown(browser, started="hour") == ids(now)
    assert shown(browser, started="over-hour") == ids(hours, days)
    assert shown(browser, started="over-day") == ids(days)
    assert ids(now) <= shown(browser, started="today", type="sales_saga")
    assert shown(browser, started="over-hour", status="completed") == ids(hours)


def test_unknown_filter_values_find_nothing_instead_of_all(browser: Client) -> None:
    stories.completed()
    assert shown(browser, status="nonsense") == shown(browser, type="nonsense") == set()


def test_search_by_id_prefix_and_correlation_id(browser: Client) -> None:
    wanted = stories.play(stories.sale(correlation_id="order-4711"), stories.SALE)
    other = old_saga(timedelta(days=1), Status.COMPLETED)
    for term in (str(wanted.id), str(wanted.id)[:18], wanted.id.hex, "order-4711", f"  {wanted.id} "):
        assert shown(browser, q=term) == ids(wanted), term
    assert shown(browser, q=str(other.id)[:8]) == ids(other)
    for term in ("nothing", "order-47", "zz", "%", "0" * 40):
        assert shown(browser, q=term) == set(), term


def test_id_ranges_cover_what_begins_so() -> None:
    low, high = id_range("01a1fbff-98") or (None, None)
    assert str(low) == "01a1fbff-9800-0000-0000-000000000000"
    assert str(high) == "01a1fbff-98ff-ffff-ffff-ffffffffffff"
    assert id_range("abc") is None
    assert id_range("order-1") is None


def test_the_list_costs_few_queries_however_long_it_is(browser: Client) -> None:
    def cost() -> int:
        browser.get(LIST)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert browser.get(LIST).status_code == 200
        return len(queries)

    stories.completed()
    few = cost()
    for _ in range(12):
        stories.undoing()
    assert cost() == few
    # session, user, permissions; count, page, steps; three bounded counts, heartbeats, paused types
    assert few <= 12


def test_counting_stops_at_a_bound_and_says_so(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "BOUND", 3)
    for _ in range(5):
        stories.failed()
    with CaptureQueriesContext(connection) as queries:
        page = browser.get(LIST).content.decode()
    assert "can be paged through" in page
    assert not [q for q in queries if "COUNT(*)" in q["sql"].upper() and "LIMIT" not in q["sql"].upper()]


def test_the_search_is_answered_by_indexes(browser: Client) -> None:
    stories.sale(correlation_id="order-4711")
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
    try:
        plans = [
            Saga.objects.filter(correlation_id="order-4711").explain(),
            Saga.objects.filter(pk__range=id_range("01a1fbff")).explain(),
        ]
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SET enable_seqscan = on")
    assert all("Index" in plan and "Seq Scan" not in plan for plan in plans)


def test_nobody_may_add_change_or_delete(admin_client: Client) -> None:
    state = stories.parked()
    detail = reverse("admin:sagas_saga_change", args=[state.id])
    assert admin_client.get(f"{LIST}add/").status_code == 403
    assert admin_client.get(f"{LIST}{state.id}/delete/").status_code == 403
    assert admin_client.post(f"{LIST}{state.id}/delete/", {"post": "yes"}).status_code == 403
    assert admin_client.post(detail, {"status": "completed"}).status_code == 405
    chosen = {"action": "delete_selected", "_selected_action": [str(state.id)], "post": "yes"}
    admin_client.post(LIST, chosen)
    assert engine.load(state.id).status is Status.PARKED
    assert SagaStep.objects.filter(saga=state.id).count() == 5
    page = admin_client.get(LIST).content.decode()
    assert "delete_selected" not in page
    assert "Add saga" not in page


def test_strangers_are_sent_to_the_login_and_clients_refused(client: Client) -> None:
    state = stories.parked()
    assert client.get(LIST).status_code == 302
    client.force_login(User.objects.create_user("carl", is_staff=True))
    for path in (LIST, f"{LIST}{state.id}/change/", "/admin/sagas/heartbeat/"):
        assert client.get(path).status_code == 403


def test_heartbeats_show_age_lateness_and_absence(browser: Client) -> None:
    engine.beat("recover", {"seen": 3})
    page = browser.get("/admin/sagas/heartbeat/").content.decode()
    recover = page[page.index("<code>recover") :]
    assert "fresh" in recover[:200]
    assert "never" in page[page.index("<code>canary") :][:300]
    strip = browser.get(LIST).content.decode()
    assert "missing, never" in strip


def test_stuck_looks_at_active_sagas_not_at_the_whole_audit() -> None:
    stories.claimed()
    with connection.cursor() as cursor:  # an audit of many sagas, and a planner that knows of it
        cursor.execute(
            """INSERT INTO sagas_sagaevent (saga_id, at, kind, step, epoch, attempt, detail, actor, reason)
               SELECT gen_random_uuid(), now(), 'step_claimed', '', 0, 1, '{}', '', ''
               FROM generate_series(1, 5000)"""
        )
        cursor.execute("ANALYZE sagas_sagaevent")
        cursor.execute("SET enable_seqscan = off")
    try:
        plan = Saga.objects.stuck(datetime.now(UTC)).explain()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SET enable_seqscan = on")
    assert "saga_event_history" in plan
    assert "Hash" not in plan


def test_locks_are_shown(admin_client: Client) -> None:
    state = stories.claimed()
    SagaLock.objects.create(key="order:7", saga_id=state.id, held=True, since=datetime.now(UTC))
    locks = admin_client.get("/admin/sagas/sagalock/", {"q": "order:"}).content.decode()
    assert "holds it" in locks
    assert str(state.id) in locks


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(microseconds=400), "0.4 ms"),
        (timedelta(milliseconds=230), "230 ms"),
        (timedelta(seconds=1.24), "1.24 s"),
        (timedelta(seconds=30), "30 s"),
        (timedelta(seconds=59.99), "1 min"),
        (timedelta(minutes=3, seconds=12), "3 min 12 s"),
        (timedelta(hours=2, minutes=5), "2 h 5 min"),
        (timedelta(days=3, hours=4), "3 d 4 h"),
        (timedelta(seconds=-5), "0 ms"),
    ],
)
def test_durations_in_two_units(span: timedelta, text: str) -> None:
    assert human(span) == text
