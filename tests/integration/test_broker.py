"""A channel whose connection is gone behaves as one that has lost it, not as a bug."""

import base64
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from kombu import Connection, Consumer, Exchange, Message, Queue
from redis.exceptions import ConnectionError as ConnectionLost

from sagas.broker import Channel, deliverable
from stack.servers import ServerUrls
from stack.waiting import wait_until

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


def nested(depth: int) -> str:
    """Lists within lists, as JSON."""
    return "[" * depth + "]" * depth


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
        {**GOOD, "body": base64.b64encode(b"[[%b], {}, {}]" % nested(300).encode()).decode()},
        {**GOOD, "body": base64.b64encode(b"[[%b], {}, {}]" % nested(1000).encode()).decode()},
        {**GOOD, "headers": {"task": "sagas.step", "shadow": json.loads(nested(300))}},
    ],
    ids=lambda message: str(message)[-60:],
)
def test_what_would_end_a_worker_is_dropped(message: object) -> None:
    assert not deliverable(message)


@pytest.mark.parametrize(
    "text", ["no JSON", nested(2000), nested(300)], ids=["no JSON", "2000 deep", "300 deep"]
)
def test_a_worker_reads_on_behind_what_is_no_message(servers: ServerUrls, text: str) -> None:
    with Connection(servers.redis, transport=TRANSPORT) as connection:
        with connection.SimpleQueue(f"test-{uuid4()}") as queue:
            channel: Any = connection.default_channel
            channel.client.lpush(queue.queue.name, text)
            queue.put("something")
            message = queue.get(timeout=5)
            message.ack()
        assert message.payload == "something"


@pytest.mark.parametrize("text", [nested(2000), nested(300)], ids=["2000 deep", "300 deep"])
def test_a_worker_reads_on_behind_a_broadcast_that_is_none(servers: ServerUrls, text: str) -> None:
    got: list[object] = []
    exchange = Exchange(f"test-{uuid4()}", type="fanout")
    queue = Queue(f"test-{uuid4()}", exchange, auto_delete=True)

    with Connection(servers.redis, transport=TRANSPORT) as connection:

        def drain() -> bool:
            with suppress(TimeoutError):
                connection.drain_events(timeout=0.1)
            return bool(got)

        channel: Any = connection.default_channel
        topic = channel._get_publish_topic(exchange.name, "")
        with Consumer(channel, [queue], callbacks=[lambda body, _: got.append(body)], no_ack=True):
            drain()  # subscribes
            assert wait_until(lambda: channel.client.publish(topic, text) == 1, 5)
            connection.Producer().publish("something", exchange=exchange)
            assert wait_until(drain, 5)
    assert got == ["something"]
