"""A worker's consumer that tells monitors of its tasks in batches.

Celery publishes what monitors (Flower) are told of a task whenever its loop turns: up to three round
trips to Redis a task, which take 40 % of the parent's CPU and hold up the next message that a child
waits for. Here an event waits up to `EVENTS_WAIT` for others to go with; none is lost by that.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from celery.worker import consumer

EVENTS_WAIT = timedelta(milliseconds=100)
Consumer: Any = consumer.Consumer  # the stubs leave out what is used here


class BatchingConsumer(Consumer):  # type: ignore[misc]  # its base is Any
    """Celery's consumer (setting `worker_consumer`) that sends its events ten times a second at most."""

    _flush_planned = False

    def on_send_event_buffered(self) -> None:
        """Plan one flush for all events of the next moment."""
        if self.hub and not self._flush_planned:
            self._flush_planned = True
            self.hub.call_later(EVENTS_WAIT.total_seconds(), self._flush_events)

    def _flush_events(self) -> None:
        self._flush_planned = False
        super()._flush_events()

    def shutdown(self) -> None:
        """Tell what is left to tell before the connection goes."""
        self._flush_events()
        super().shutdown()
