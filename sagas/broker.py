"""Redis as a broker that may go away at any moment: Celery's transport, mended.

A channel of kombu 5.7 whose connection is gone fails with an AttributeError when it is asked to give
back or acknowledge a message. Celery takes that for a bug and ends the worker, which then waits for
steps that are long done: a restart of Redis under load leaves a worker alive but deaf. Here it fails
as what it is, a lost connection, which Celery knows how to live through. What could not be given back
is given back by Redis after the visibility timeout, or rung for by the recovery scan.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis
from redis.exceptions import ConnectionError as ConnectionLost


class QoS(redis.QoS):
    """What was delivered and not acknowledged."""

    def restore_unacked(self, client: Any = None) -> None:
        """Give messages back to their queues, unless there is nobody to give them to."""
        with suppress(ConnectionLost):
            super().restore_unacked(client)
        if self._delivered is not None:
            self._delivered.clear()


class Channel(redis.Channel):
    """Closed with its connection."""

    QoS = QoS

    def _connparams(self, *args: Any, **kwargs: Any) -> Any:
        if getattr(self.connection, "client", None) is None:
            raise ConnectionLost("the connection of this channel is closed")
        return super()._connparams(*args, **kwargs)  # type: ignore[misc]  # the stubs leave it out


class Transport(redis.Transport):
    """What `redis://` means after `outlive_redis`."""

    Channel = Channel


def outlive_redis() -> None:
    """Let this process reach Redis brokers by the mended transport; URLs stay as they are."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__name__}"
