"""Messages that nobody should have sent: a worker drops them, and goes on with the others."""

import base64
import json
from typing import Any
from uuid import uuid4

import pytest
import redis

from stack.waiting import wait_until
from tests.acceptance.world import World

pytestmark = pytest.mark.timeout(120)
TEN_MEGABYTES = 10 * 1024 * 1024
QUEUES = ("forward", "compensation", "maintenance")
TAKEN_WITHIN = 20.0

NESTED = "[" * 2000 + "]" * 2000


def envelope(body: bytes, task: str = "sagas.step", content_type: str = "application/json") -> str:
    """A message as Celery's transport keeps it in Redis."""
    headers = {"lang": "py", "task": task, "id": str(uuid4()), "argsrepr": "", "kwargsrepr": ""}
    properties: dict[str, Any] = {
        "correlation_id": headers["id"],
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": "forward"},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": str(uuid4()),
    }
    message = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": content_type,
        "headers": headers,
        "properties": properties,
    }
    return json.dumps(message)


def task_body(*arguments: object) -> bytes:
    """The body of a task with these arguments."""
    return json.dumps([arguments, {}, {"callbacks": None, "errbacks": None, "chain": None}]).encode()


POISON = {
    "unknown task": envelope(task_body(), task="sagas.nothing_of_the_kind"),
    "bad json": envelope(b'{"half": '),
    "not a task": envelope(b'"a word"'),
    "pickle": envelope(b"\x80\x04N.", content_type="application/x-python-serialize"),
    "no arguments": envelope(task_body()),
    "no such saga": envelope(task_body(str(uuid4()), 0, 0, "sales_saga", 1)),
    "no such position": envelope(task_body(str(uuid4()), 99, 0, "sales_saga", 1)),
    "no uuid": envelope(task_body("nobody", 0, 0, "sales_saga", 1)),
    "ten megabytes": envelope(task_body("x" * TEN_MEGABYTES, 0, 0, "sales_saga", 1)),
    "nested body": envelope(NESTED.encode()),
    "nested envelope": NESTED,
    "no envelope": "not even an envelope",
    "empty envelope": "{}",
}


@pytest.mark.parametrize("what", POISON)
def test_a_poison_message_stops_nobody(world: World, what: str) -> None:
    with redis.Redis.from_url(world.environment["REDIS_URL"]) as client:
        for queue in QUEUES:
            client.rpush(queue, POISON[what])
        assert wait_until(lambda: not any(client.llen(queue) for queue in QUEUES), TAKEN_WITHIN)
    assert world.ended(world.sale(), within=TAKEN_WITHIN)["status"] == "completed"
    assert not world.worker.ended()
    assert not world.maintenance.ended()
