"""What monitors are told of tasks goes in batches, all of it."""

from collections.abc import Callable
from typing import Any

import pytest

from sagas.consumer import EVENTS_WAIT, BatchingConsumer


class Hub:
    """An event loop whose time stands still until `turn`."""

    def __init__(self) -> None:
        self.planned: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        self.planned.append((delay, callback))

    def turn(self) -> None:
        planned, self.planned = self.planned, []
        for _, callback in planned:
            callback()


class Dispatcher:
    """Counts flushes."""

    flushes = 0

    def flush(self) -> None:
        self.flushes += 1


class Steps:
    """The consumer's own parts, of which only the order of ending matters."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self.flushed_before = -1

    def shutdown(self, parent: Any) -> None:
        self.flushed_before = self.dispatcher.flushes


@pytest.fixture
def consumer() -> Any:
    made: Any = object.__new__(BatchingConsumer)
    made.hub, made.event_dispatcher = Hub(), Dispatcher()
    made.blueprint = Steps(made.event_dispatcher)
    made.perform_pending_operations = lambda: None
    return made


def test_events_of_a_moment_go_together(consumer: Any) -> None:
    for _ in range(3):
        consumer.on_send_event_buffered()
    assert [delay for delay, _ in consumer.hub.planned] == [EVENTS_WAIT.total_seconds()]
    assert consumer.event_dispatcher.flushes == 0
    consumer.hub.turn()
    assert consumer.event_dispatcher.flushes == 1


def test_later_events_go_later(consumer: Any) -> None:
    consumer.on_send_event_buffered()
    consumer.hub.turn()
    consumer.on_send_event_buffered()
    assert len(consumer.hub.planned) == 1


def test_nothing_is_left_untold_at_the_end(consumer: Any) -> None:
    consumer.on_send_event_buffered()
    consumer.shutdown()
    assert consumer.blueprint.flushed_before == 1
