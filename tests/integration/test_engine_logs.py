"""What the log says of a saga: whose every line is, and what a person has to know who must mend it."""

from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from sagas import engine, logs
from tests.definitions import Chain
from tests.engine import drive, registered
from tests.scripted import FORBIDDEN, LOST_ANSWER, Says, Scripted, refuses

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("bells")]
GONE = {"third": refuses("too_dear"), "undo-second": refuses("gone")}


@pytest.fixture(autouse=True)
def definitions() -> Iterator[None]:
    """Code for the saga of these tests."""
    with registered(Chain):
        yield


@pytest.fixture(autouse=True)
def afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logger that nobody has used yet: one that was used keeps the processors of then."""
    monkeypatch.setattr(logs, "log", structlog.get_logger("sagas"))


def logged(scripted: Scripted, status: str, says: dict[str, Says]) -> tuple[str, list[Any]]:
    """A saga that ends like this when the shop says that, and the lines of the log meanwhile."""
    for operation, what in says.items():
        scripted.will(operation, what)
    with capture_logs() as lines:
        state = engine.start(Chain.type, {}, correlation_id="order-7").state
        assert drive(state.id).status == status
    return str(state.id), list(lines)


@pytest.mark.parametrize(
    ("status", "says", "events"),
    [
        ("completed", {"second": LOST_ANSWER}, {"saga started", "step_unknown", "saga_completed"}),
        ("compensated", {"third": refuses("too_dear")}, {"step_refused", "saga_turned", "saga_compensated"}),
        ("failed", {"first": refuses("sold_out")}, {"step_refused", "saga_turned", "saga_failed"}),
        ("parked", {"second": FORBIDDEN}, {"saga_parked"}),
        ("compensation_failed", GONE, {"saga_turned", "compensation_failed"}),
    ],
)
def test_every_line_says_which_saga_of_which_type_and_whose_request(
    scripted: Scripted, status: str, says: dict[str, Says], events: set[str]
) -> None:
    saga_id, lines = logged(scripted, status, says)
    assert events <= {line["event"] for line in lines}
    for line in lines:
        assert (line["saga"], line["type"], line["correlation_id"]) == (saga_id, "chain", "order-7"), line


def statuses(alarm: Any) -> list[str]:
    """The status of each step, as an alarm tells it."""
    return [alarm["steps"][declared.name]["status"] for declared in Chain.steps]


def test_rule_12_a_failed_compensation_says_where_the_saga_stands_and_what_is_left(
    scripted: Scripted,
) -> None:
    _, lines = logged(scripted, "compensation_failed", GONE)
    (alarm,) = [line for line in lines if line["log_level"] == "error"]
    assert (alarm["event"], alarm["step"], alarm["code"]) == ("compensation_failed", "second", "gone")
    assert statuses(alarm) == ["completed", "compensation_failed", "failed", "skipped"]
    assert alarm["undos_left"] == ["first", "second"]


def test_a_parked_saga_says_where_it_stands(scripted: Scripted) -> None:
    _, lines = logged(scripted, "parked", {"second": FORBIDDEN})
    (alarm,) = [line for line in lines if line["log_level"] == "error"]
    assert (alarm["event"], alarm["step"], alarm["code"]) == ("saga_parked", "second", "http_401")
    assert statuses(alarm) == ["completed", "pending", "pending", "pending"]
