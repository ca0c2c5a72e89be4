"""Redis as a broker that may go away, or hold rubbish, at any moment: Celery's transport, mended.

A channel of kombu 5.7 whose connection is gone fails with an AttributeError when it is asked to give
back or acknowledge a message. Celery takes that for a bug and ends the worker, which then waits for
steps that are long done: a restart of Redis under load leaves a worker alive but deaf. Here it fails
as what it is, a lost connection, which Celery knows how to live through. What could not be given back
is given back by Redis after the visibility timeout, or rung for by the recovery scan.

A message that is none ends a worker too, and is given back to end the next one. Here it is dropped.
"""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from queue import Empty
from typing import Any

import structlog
from kombu.transport import TRANSPORT_ALIASES, redis
from redis.exceptions import ConnectionError as ConnectionLost

log = structlog.get_logger(__name__)

# Far below what Python can read, write and pickle on top of Celery's own calls.
DEEPEST = 200


class QoS(redis.QoS):
    """What was delivered and not acknowledged."""

    def restore_unacked(self, client: Any = None) -> None:
        """Give messages back to their queues, unless there is nobody to give them to."""
        with suppress(ConnectionLost):
            super().restore_unacked(client)
        if self._delivered is not None:
            self._delivered.clear()


class Channel(redis.Channel):
    """Closed with its connection; reads on behind what is no message."""

    QoS = QoS

    def _connparams(self, *args: Any, **kwargs: Any) -> Any:
        if getattr(self.connection, "client", None) is None:
            raise ConnectionLost("the connection of this channel is closed")
        return super()._connparams(*args, **kwargs)  # type: ignore[misc]  # the stubs leave it out

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # the stubs leave it out
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            log.error("message dropped: it cannot be read as JSON", error=str(error))
            raise Empty from None

    def _receive_one(self, *args: Any) -> Any:
        try:
            return super()._receive_one(*args)  # type: ignore[misc]  # the stubs leave it out
        except RecursionError as error:
            log.error("broadcast dropped: it cannot be read as JSON", error=str(error))
            raise Empty from None


class Transport(redis.Transport):
    """What `redis://` means after `outlive_redis`."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str | None) -> None:
        if deliverable(message):
            super()._deliver(message, queue)
        else:
            shown = repr(message)[:500] if shallow(message) else "nested too deeply"
            log.error("message dropped: Celery could not read it", queue=queue, message=shown)


def deliverable(message: Any) -> bool:
    """Whether Celery can take a message, if only to refuse it: it must not fail at reading it."""
    try:
        properties, headers = message["properties"], message["headers"]
        complete = bool({"delivery_tag", "delivery_info"} <= properties.keys()) and shallow(message)
        if not complete or "task" not in headers or message["content-type"] != "application/json":
            return complete  # an event, remote control, or a form that Celery does not accept
        arguments, named, embedded = body = json.loads(base64.b64decode(message["body"]))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return False
    fitting = isinstance(arguments, list) and isinstance(named, dict) and isinstance(embedded, dict)
    return fitting and shallow(body)


def shallow(value: object) -> bool:
    """Whether lists and objects nest no deeper than can safely be handled."""
    layer = [value]
    for _ in range(DEEPEST):
        nested = [item for item in layer if isinstance(item, dict | list)]
        if not nested:
            return True
        layer = [inner for item in nested for inner in (item.values() if isinstance(item, dict) else item)]
    return False


def outlive_redis() -> None:
    """Let this process reach Redis brokers by the mended transport; URLs stay as they are."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__name__}"
