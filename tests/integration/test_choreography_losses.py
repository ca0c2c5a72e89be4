"""What nobody handled is found however old it is; what can never be handled is given up in the end."""

import pytest

from sagas.choreography import relay
from sagas.choreography.bus import bus
from tests.choreography import GOOD, begin, consume, execute, relay_all, settle, types

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.usefixtures("shop", "brisk"),
]


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event is older than a slow commit could be."""
    monkeypatch.setattr(relay, "HORIZON", "0 seconds")


@pytest.mark.usefixtures("old")
def test_old_events_lost_before_anybody_handled_one_are_found() -> None:
    stream = begin()
    relay_all()  # the first that ever ran
    bus().client.flushall()
    settle()
    assert types(stream) == GOOD
    assert execute("SELECT count(*) FROM choreography_auditentry") == [(4,)]


@pytest.mark.usefixtures("old")
def test_a_group_that_comes_later_is_not_told_the_past() -> None:
    begin()
    settle()
    for table in ("checkpoint", "inbox"):
        execute(f"DELETE FROM choreography_{table} WHERE consumer = 'choreo-notification'")  # noqa: S608  # named here
    bus().client.flushall()
    relay_all()
    assert consume("choreo-notification") == 0
    begin()
    relay_all()
    bus().client.flushall()
    settle()
    told = execute("SELECT count(*) FROM choreography_inbox WHERE consumer = 'choreo-notification'")
    assert told == [(1,)]
