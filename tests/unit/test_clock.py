"""The database's clock, carried on by the monotonic one, and asked again after a while."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError

from sagas.clock import HEARD_FOR, Clock

NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


class Times:
    """A server's time and a machine's monotonic one, which stands still while the machine sleeps."""

    def __init__(self) -> None:
        self.server, self.machine = NOON, 1000.0
        self.asked = 0
        self.away = False

    def pass_by(self, seconds: float, *, asleep: float = 0.0) -> None:
        self.server += timedelta(seconds=seconds + asleep)
        self.machine += seconds

    def query(self, *_: object) -> list[tuple[datetime]]:
        self.asked += 1
        if self.away:
            raise OperationalError("nobody there")
        return [(self.server,)]


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    """Times that the tests move."""
    made = Times()
    monkeypatch.setattr("sagas.clock.sql.query", made.query)
    monkeypatch.setattr("sagas.clock.time.monotonic", lambda: made.machine)
    return made


def test_a_time_that_was_heard_is_carried_on(times: Times) -> None:
    clock = Clock()
    assert clock.now() == NOON
    times.pass_by(HEARD_FOR)
    assert (clock.now(), times.asked) == (times.server, 1)


def test_a_time_that_is_minutes_old_is_asked_for_again(times: Times) -> None:
    clock = Clock()
    clock.now()
    times.pass_by(HEARD_FOR + 1, asleep=3600)
    assert (clock.now(), times.asked) == (times.server, 2)


def test_a_server_that_is_away_is_asked_once_in_a_while(times: Times) -> None:
    clock = Clock()
    clock.now()
    times.away = True
    times.pass_by(HEARD_FOR + 1)
    assert [clock.now() for _ in range(3)] == [times.server] * 3
    assert times.asked == 2
