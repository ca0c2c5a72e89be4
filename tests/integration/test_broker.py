"""A channel whose connection is gone behaves as one that has lost it, not as a bug."""

import base64
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from kombu import Connection, Message
from redis.exceptions import ConnectionError as ConnectionLost

from sagas.broker import Channel, deliverable
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


GOOD = {
    "body": base64.b64encode(b'[["an id"], {}, {}]').decode(),
    "content-type": "application/json",
    "headers": {"task": "sagas.step"},
    "properties": {"delivery_tag": "1", "delivery_info": {}},
}


def test_a_task_is_delivered() -> None:
    assert deliverable(GOOD)


def test_what_is_no_task_is_left_to_celery() -> None:
    assert deliverable({**GOOD, "headers": {}, "body": "e30="})
    assert deliverable({**GOOD, "content-type": "application/x-python-serialize", "body": "gAROLg=="})


@pytest.mark.parametrize(
    "message",
    [
        {},
        [],
        "a word",
        {**GOOD, "properties": {}},
        {**GOOD, "headers": None},
        {**GOOD, "body": None},
        {**GOOD, "body": "no base64"},
        {**GOOD, "body": base64.b64encode(b'{"half": ').decode()},
        {**GOOD, "body": base64.b64encode(b'"a word"').decode()},
        {**GOOD, "body": base64.b64encode(b"[{}, [], {}]").decode()},
    ],
)
def test_what_would_end_a_worker_is_dropped(message: object) -> None:
    assert not deliverable(message)
