"""A channel whose connection is gone behaves as one that has lost it, not as a bug."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from kombu import Connection, Message
from redis.exceptions import ConnectionError as ConnectionLost

from sagas.broker import Channel
from stack.servers import ServerUrls

TRANSPORT = "sagas.broker:Transport"


def channel_of(message: Message) -> Any:
    """The channel it came by, which must be the mended one."""
    assert isinstance(message.channel, Channel)
    return message.channel


@pytest.fixture
def unacknowledged(servers: ServerUrls) -> Iterator[Message]:
    """A message that was received on a connection that is gone now."""
    connection = Connection(servers.redis, transport=TRANSPORT)
    with connection.SimpleQueue(f"test-{uuid4()}") as queue:
        queue.put("something")
        message = queue.get(timeout=5)
    connection.transport.client = None
    channel_of(message)._disconnect_pools()
    yield message
    connection.release()


def test_an_acknowledgement_tells_that_the_connection_is_lost(unacknowledged: Message) -> None:
    with pytest.raises(ConnectionLost):
        unacknowledged.ack()


def test_a_channel_can_be_closed_twice(unacknowledged: Message) -> None:
    channel = channel_of(unacknowledged)
    channel.close()
    channel.close()


def test_what_cannot_be_given_back_is_left_to_the_visibility_timeout(unacknowledged: Message) -> None:
    qos = channel_of(unacknowledged).qos
    qos.restore_unacked()
    assert not qos._delivered
