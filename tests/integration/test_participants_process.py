"""One participant in a process of its own, behind the server that is used for real."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection, IncompleteRead, RemoteDisconnected
from pathlib import Path
from urllib.parse import quote

import pytest
from django.db import connections

from participants.inventory.models import Reservation, Stock
from stack.ports import free_port
from tests.participants import CREDENTIAL

pytestmark = [pytest.mark.django_db(transaction=True, databases="__all__"), pytest.mark.slow]
ROOT = Path(__file__).parents[2]
BASKET = {"store_id": 1, "items": [{"product_id": 456, "quantity": 2}]}
START_SECONDS = 30


@pytest.fixture
def port(transactional_db: None) -> Iterator[int]:
    """The port of a process that serves the inventory of the test database alone."""
    number = free_port()
    command = [sys.executable, "-m", "gunicorn", "sagaproject.participant_wsgi:application"]
    options = ["--no-control-socket", "-k", "gthread", "--threads", "4", "-b", f"127.0.0.1:{number}"]
    environment = os.environ | {
        "INVENTORY_DATABASE_URL": url_of("inventory"),
        "PARTICIPANTS_SERVED": "inventory",
        "PARTICIPANTS_FAULTS": "1",
        "PARTICIPANT_CREDENTIALS": CREDENTIAL,
    }
    process = subprocess.Popen([*command, *options], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_until_healthy(number)
        yield number
    finally:
        process.terminate()
        process.wait(30)


def url_of(alias: str) -> str:
    """The URL of the database that this test run uses for an alias."""
    config = connections[alias].settings_dict
    login = f"{quote(config['USER'])}:{quote(config['PASSWORD'])}"
    return f"postgresql://{login}@{config['HOST']}:{config['PORT']}/{config['NAME']}"


def wait_until_healthy(port: int) -> None:
    """Ask until the process answers, for so long and no longer."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            if call(port, "GET", "/health")[0] == 200:
                return
        except ConnectionRefusedError:
            pass
        assert time.monotonic() < end, "the participant did not start"


def call(
    port: int, method: str, path: str, body: object = None, key: str = "", *, chunked: bool = False
) -> tuple[int, dict[str, object]]:
    """One request over a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Authorization": f"Bearer {CREDENTIAL}", "Idempotency-Key": key}
    try:
        sent = json.dumps(body).encode() if body is not None else None
        # Of what is no bytes the client knows no length.
        connection.request(method, path, iter([sent]) if chunked and sent else sent, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"{}")
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("kind", "error", "applied"),
    [
        ("reset_before", (RemoteDisconnected, ConnectionResetError), False),
        ("reset_after", (RemoteDisconnected, ConnectionResetError), True),
        ("cut", (IncompleteRead,), True),
    ],
)
def test_an_answer_that_is_lost_on_the_way(
    port: int, kind: str, error: tuple[type[Exception], ...], applied: bool
) -> None:
    Stock.objects.create(store_id=1, product_id=456, quantity=10)
    call(port, "POST", "/inventory/faults", {"operation": "reserve-stock", "kind": kind})
    with pytest.raises(error):
        call(port, "POST", "/saga/reserve-stock", BASKET, "key-1")
    assert Reservation.objects.count() == (1 if applied else 0)
    assert call(port, "POST", "/saga/reserve-stock", BASKET, "key-1")[0] == 200
    assert Stock.objects.get().reserved == 2


@pytest.mark.parametrize(
    ("path", "body", "done"),
    [
        ("/saga/reserve-stock", BASKET, 200),
        ("/inventory/api/deliveries", {"store_id": 1, "items": [{"product_id": 456, "quantity": 1}]}, 201),
    ],
)
def test_a_body_in_chunks_is_refused_and_leaves_its_key_unused(
    port: int, path: str, body: object, done: int
) -> None:
    Stock.objects.create(store_id=1, product_id=456, quantity=10)
    status, document = call(port, "POST", path, body, "key-1", chunked=True)
    assert (status, document["code"]) == (411, "length_required")
    assert call(port, "POST", path, body, "key-1")[0] == done


def test_a_process_tells_its_metrics(port: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert b"process_cpu_seconds_total" in answer.read()


def test_a_process_serves_the_participants_it_is_told_to(port: int) -> None:
    assert call(port, "GET", "/health") == (200, {"status": "ok", "participants": {"inventory": "ok"}})
    assert call(port, "GET", "/saga/validate-employee/1")[0] == 404
    assert call(port, "GET", "/personnel/saga/validate-employee/1")[0] == 404
    assert call(port, "GET", "/nothing") == (
        404,
        {"status": "error", "code": "not_found", "reason": "Nothing is served here."},
    )
