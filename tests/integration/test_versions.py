"""Rule 2: whoever starts without the code of sagas in flight is told so."""

from collections.abc import Iterator

import pytest
import structlog
from django.db import DatabaseError, connection
from structlog.testing import capture_logs

from sagas import engine, lifecycle, versions
from sagas.definition import registry
from tests.definitions import Chain
from tests.engine import drive, registered
from tests.scripted import Scripted

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def definitions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Code for the sagas of these tests, and a logger that can be listened to: nobody has used it yet."""
    monkeypatch.setattr(lifecycle, "log", structlog.get_logger())
    with registered(Chain):
        yield


def said_at_start() -> list[dict[str, object]]:
    """What a worker says of versions as it starts."""
    with capture_logs() as lines:
        lifecycle.name_what_has_no_code()
    return [dict(line) for line in lines]


def test_rule_2_a_worker_says_at_its_start_what_it_has_no_code_for(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    flying = engine.start("chain", {}).state
    assert said_at_start() == []
    with monkeypatch.context() as patch:
        patch.delitem(registry.by_key, ("chain", 1))
        (line,) = said_at_start()
    assert (line["log_level"], line["versions"]) == ("error", ["chain version 1"])
    assert connection.connection is None, "children must not inherit it"
    drive(flying.id)
    with monkeypatch.context() as patch:
        patch.delitem(registry.by_key, ("chain", 1))
        assert said_at_start() == []


def test_a_worker_starts_without_a_database_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> list[str]:
        raise DatabaseError("nobody there")

    monkeypatch.setattr(versions, "without_code", away)
    (line,) = said_at_start()
    assert line["log_level"] == "warning"
