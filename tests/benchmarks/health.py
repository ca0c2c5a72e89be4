"""How the API's health endpoint bears what `ab -n 1000 -c 10` does: a new connection for each request."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import fmean

import psutil

from tests.benchmarks.eventful import Bench, Found

REQUESTS, AT_ONCE = 1000, 10
REQUEST = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
PATIENCE = 30.0
MIB = 2**20


def probed(on: Bench) -> Found:
    """Requests a second, how long each took, and what an instance of the API holds of memory."""
    on.api.start()
    on.api.wait_healthy()
    port = on.config.ports["PORT_API"]
    with ThreadPoolExecutor(AT_ONCE) as callers:
        list(callers.map(answered, [port] * AT_ONCE * 10))  # the server's threads have begun
        began = time.monotonic()
        seconds = list(callers.map(answered, [port] * REQUESTS))
        lasted = time.monotonic() - began
    found = {
        "requests/s": round(REQUESTS / lasted),
        "mean ms": round(1000 * fmean(seconds), 2),
        "mib an instance": round(sum(process.memory_full_info().pss for process in family(on.api.pid)) / MIB),
    }
    on.api.stop()
    return found


def answered(port: int) -> float:
    """Ask once, on a connection of its own; how many seconds that took."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(REQUEST)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise AssertionError(answer.decode(errors="replace"))
    return time.monotonic() - began


def family(pid: int) -> Iterator[psutil.Process]:
    """A process and all that it has started."""
    yield psutil.Process(pid)
    yield from psutil.Process(pid).children(recursive=True)
