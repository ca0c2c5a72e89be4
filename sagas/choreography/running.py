"""Relay and consumers as long-running work: loops in threads, until they are told to stop.

Each thread has its own connection to PostgreSQL. A server that is away is waited for; a thread that
dies of anything else takes its process with it, so that whoever supervises that sees it.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from types import FrameType

import structlog
from django.db import connection
from prometheus_client import start_http_server

from sagas.choreography.bus import bus
from sagas.choreography.consumer import Consumer
from sagas.choreography.relay import SERVERS_AWAY, Relay, upkeep_period
from sagas.choreography.topics import Group

log = structlog.get_logger(__name__)

PAUSE = 0.5
Turn = Callable[[], object]


class Crew:
    """Threads that each do one thing again and again."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.failed = False
        self._threads: list[threading.Thread] = []

    def add(self, name: str, turn: Turn, every: float = 0.0) -> None:
        """One more thread, which pauses `every` seconds between two turns."""
        thread = threading.Thread(target=self._loop, args=(name, turn, every), name=name, daemon=True)
        self._threads.append(thread)

    def run(self, metrics_port: int = 0, metrics_address: str = "127.0.0.1") -> bool:
        """Work until SIGTERM or SIGINT; what was begun is finished. False if a thread has died."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        if metrics_port:
            start_http_server(metrics_port, metrics_address)
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join()
        return not self.failed

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping.set()

    def _loop(self, name: str, turn: Turn, every: float) -> None:
        try:
            while not self.stopping.is_set():
                self._turn(name, turn)
                if every:
                    self.stopping.wait(every)
        except Exception:
            log.exception("a loop has died", loop=name)
            self.failed = True
            self.stopping.set()
        finally:
            connection.close()

    def _turn(self, name: str, turn: Turn) -> None:
        try:
            turn()
        except SERVERS_AWAY as error:
            log.warning("a server is away", loop=name, error=str(error).strip())
            connection.close()
            self.stopping.wait(PAUSE)


def consumers(groups: Sequence[Group], workers: int) -> Crew:
    """Consumers of these groups: `workers` threads for each that calls participants, one for each fold."""
    crew = Crew()
    for group in groups:
        for number in range(1 if group.fold is not None else workers):
            name = f"{socket.gethostname()}-{os.getpid()}-{number}"
            crew.add(f"{group.name}-{number}", Consumer(group, name, bus()).turn)
    return crew


def relays() -> Crew:
    """One relay with its upkeep."""
    crew, relay = Crew(), Relay(bus())
    crew.add("relay", relay.turn)
    crew.add("upkeep", relay.upkeep, upkeep_period().total_seconds())
    return crew
