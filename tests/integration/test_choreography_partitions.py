"""Events find a place whatever has become of the partitions, and come to the right one later."""

from datetime import UTC, datetime, timedelta

import pytest
from celery import current_app
from django.core.management import call_command
from django.db import IntegrityError, OperationalError, connection, transaction

from sagas.choreography import deadletters, partitions, store, tasks
from sagas.choreography.apps import make_partitions
from sagas.choreography.models import DeadLetter, OrdersByClient, StoredEvent
from sagas.errors import NotAllowed
from tests.choreography import GOOD, begin, execute, settle, types
from tests.retail import assert_books_balance, fault

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.usefixtures("shop", "brisk"),
]
AHEAD = timedelta(days=14)


@pytest.fixture
def no_days(shop: None) -> None:
    """As after weeks in which nobody made partitions."""
    for table in partitions.TABLES:
        for day in partitions.existing(table):
            execute(f"DROP TABLE {day.name}")


@pytest.mark.usefixtures("no_days")
def test_without_any_partition_checkouts_go_on_and_days_get_their_rows_back() -> None:
    stream = begin()
    settle()
    assert types(stream) == GOOD
    before = list(StoredEvent.objects.order_by("position").values())
    assert [partitions.strays(table) > 0 for table in partitions.TABLES] == [True] * 3
    assert partitions.secure(AHEAD) == 3 * 16
    assert [partitions.strays(table) for table in partitions.TABLES] == [0] * 3
    today = f"choreography_event_{datetime.now(UTC):%Y%m%d}"
    assert execute(f"SELECT count(*) FROM {today}") == [(len(GOOD),)]  # noqa: S608  # a name made here
    assert list(StoredEvent.objects.order_by("position").values()) == before
    begin()
    settle()
    assert OrdersByClient.live.get().total_orders == 2
    assert_books_balance()


@pytest.mark.usefixtures("no_days")
def test_what_lies_in_the_default_partition_is_never_changed_either() -> None:
    begin()
    for _ in range(2):
        for change in ("UPDATE {} SET type = 'x'", "DELETE FROM {}", "TRUNCATE {}"):
            with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
                execute(change.format("choreography_event_default"))
        with transaction.atomic():
            partitions.secure(AHEAD)
            later = datetime.now(UTC) + timedelta(days=40)
            partitions.make(later.date(), later.date())
        execute(f"DROP TABLE choreography_event_{datetime.now(UTC):%Y%m%d}")
        begin()
    partitions.secure(AHEAD)


@pytest.mark.usefixtures("no_days")
@pytest.mark.parametrize("by", ["migrate", "beat", "command"])
def test_who_makes_the_days_ahead(by: str) -> None:
    begin()
    if by == "migrate":
        call_command("migrate", "choreography", verbosity=0, interactive=False)
    elif by == "beat":
        tasks.secure()
    else:
        call_command("events", "partitions")
    days = [day.day for day in partitions.existing("choreography_event")]
    today = datetime.now(UTC).date()
    assert days == [today + timedelta(days=n) for n in range(-1, 15)]
    assert partitions.strays("choreography_event") == 0


def test_beat_knows_its_part() -> None:
    entry = current_app.conf.beat_schedule["partitions"]
    current_app.loader.import_default_modules()
    assert entry["task"] == tasks.secure.name
    assert entry["task"] in current_app.tasks


@pytest.mark.usefixtures("no_days")
def test_a_reader_that_does_not_give_way_delays_partitions_and_nothing_else() -> None:
    begin()
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT count(*) FROM choreography_event")
            with pytest.raises(OperationalError, match="lock timeout"):
                partitions.secure(AHEAD)
            make_partitions("default")  # migrating does not fail of it
            stream = begin()
    finally:
        other.close()
    settle()
    assert types(stream) == GOOD
    partitions.secure(AHEAD)


def test_what_is_still_to_be_published_is_not_dropped() -> None:
    begin()
    later = datetime.now(UTC) + timedelta(days=60)
    with transaction.atomic():
        partitions.maintain(AHEAD, timedelta(days=30), later)
        assert StoredEvent.objects.count() == 1
        transaction.set_rollback(True)


def test_a_dead_letter_whose_event_is_gone_says_so() -> None:
    fault("notifications", "choreo-notification", "error_before", times=4)
    begin()
    settle()
    letter = DeadLetter.objects.get()
    later = datetime.now(UTC) + timedelta(days=60)
    with transaction.atomic():
        partitions.maintain(AHEAD, timedelta(days=30), later)
        with pytest.raises(NotAllowed, match="retention"), transaction.atomic():
            deadletters.redrive(letter.pk, "tester")
        transaction.set_rollback(True)
    assert DeadLetter.objects.get().redriven_at is None
    assert store.history(letter.stream)
