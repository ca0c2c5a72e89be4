"""The participants in a process of their own, over the databases of the test run."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

from django.conf import settings
from django.db import connections

from stack.ports import free_port

ROOT = Path(__file__).parents[1]
CREDENTIAL = "a-credential-for-tests"
START_SECONDS = 30


def url_of(alias: str) -> str:
    """The URL of the database that this test run uses for an alias."""
    config = connections[alias].settings_dict
    login = f"{quote(config['USER'])}:{quote(config['PASSWORD'])}"
    return f"postgresql://{login}@{config['HOST']}:{config['PORT']}/{config['NAME']}"


@contextmanager
def served(application: str, environment: dict[str, str]) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The URL of a WSGI server of that application, and its process."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", application]
    options = ["--no-control-socket", "-k", "gthread", "--threads", "16", "--keep-alive", "75"]
    process = subprocess.Popen(
        [*command, *options, "-b", f"127.0.0.1:{port}"],
        cwd=ROOT,
        env=os.environ | environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until_healthy(port)
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def participants_process() -> Iterator[str]:
    """The URL of a process that serves all participants of the test databases, with faults enabled."""
    environment = {
        **{f"{name.upper()}_DATABASE_URL": url_of(name) for name in settings.PARTICIPANT_NAMES},
        "PARTICIPANTS_FAULTS": "1",
        "PARTICIPANT_CREDENTIALS": CREDENTIAL,
    }
    with served("sagaproject.participant_wsgi:application", environment) as (url, _):
        yield url


def wait_until_healthy(port: int) -> None:
    """Ask until the process answers, for so long and no longer."""
    end = time.monotonic() + START_SECONDS
    while True:
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", "/health")
            if json.loads(connection.getresponse().read())["status"] == "ok":
                return
        except OSError:
            pass
        finally:
            connection.close()
        assert time.monotonic() < end, "the participants did not start"
