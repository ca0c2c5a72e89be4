"""What can be configured from the environment or from `.env`: ports, folders, servers.

`config/env.example` lists the variables.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from stack.errors import Trouble

ROOT = Path(__file__).resolve().parent.parent

PORTS = {
    "PORT_API": 8000,
    "PORT_PARTICIPANTS": 8001,
    "PORT_FLOWER": 5555,
    "PORT_POSTGRES": 54329,
    "PORT_REDIS": 63799,
    "PORT_WORKER_METRICS": 9808,
    "PORT_MAINTENANCE_METRICS": 9809,
    "PORT_RELAY_METRICS": 9810,
    "PORT_CONSUMER_METRICS": 9811,
}
PORT_OWNERS = {
    "PORT_API": "the API",
    "PORT_PARTICIPANTS": "the participants",
    "PORT_FLOWER": "Flower",
    "PORT_POSTGRES": "PostgreSQL",
    "PORT_REDIS": "Redis",
    "PORT_WORKER_METRICS": "the worker's metrics",
    "PORT_MAINTENANCE_METRICS": "the maintenance worker's metrics",
    "PORT_RELAY_METRICS": "the event relay's metrics",
    "PORT_CONSUMER_METRICS": "the event consumers' metrics",
}
SERVER_SOURCES = ("auto", "system", "embedded")


@dataclass(frozen=True)
class Config:
    """One stack: where it lives, on which ports, and with whose servers.

    `database_url` and `redis_url` are None where the stack brings its own server. `environment`
    is the whole environment that the stack's processes get.
    """

    data: Path
    ports: Mapping[str, int]
    database_url: str | None
    redis_url: str | None
    server_source: str
    environment: Mapping[str, str]

    @classmethod
    def load(cls) -> "Config":
        """The configuration of this checkout; a variable of the environment wins over `.env`."""
        file = {name: value for name, value in dotenv_values(ROOT / ".env").items() if value is not None}
        return cls.parse({**file, **os.environ})

    @classmethod
    def parse(cls, environment: Mapping[str, str]) -> "Config":
        """The configuration that `environment` describes. Raises Trouble for a value that cannot be."""
        source = environment.get("STACK_SERVERS") or "auto"
        if source not in SERVER_SOURCES:
            raise Trouble(f"STACK_SERVERS must be one of {', '.join(SERVER_SOURCES)}, not {source!r}.")
        return cls(
            data=(ROOT / (environment.get("DATA_DIR") or ".data")).resolve(),
            ports={name: _port(name, environment.get(name), default) for name, default in PORTS.items()},
            database_url=environment.get("DATABASE_URL") or None,
            redis_url=environment.get("REDIS_URL") or None,
            server_source=source,
            environment=dict(environment),
        )

    @property
    def logs(self) -> Path:
        """Where the processes' output is kept."""
        return self.data / "logs"

    @property
    def run(self) -> Path:
        """Where what lives no longer than the stack itself is kept."""
        return self.data / "run"

    @property
    def api_url(self) -> str:
        """Where the API of this stack answers."""
        return f"http://127.0.0.1:{self.ports['PORT_API']}"

    @property
    def given(self) -> dict[str, str]:
        """The variables by which another command finds this stack: its ports, and servers given by URL."""
        ports = {name: str(port) for name, port in self.ports.items()}
        urls = {"DATABASE_URL": self.database_url, "REDIS_URL": self.redis_url}
        return {**ports, **{name: url for name, url in urls.items() if url is not None}}

    def own_ports(self) -> dict[str, int]:
        """The ports that this stack opens itself."""
        foreign = set()
        if self.database_url:
            foreign.add("PORT_POSTGRES")
        if self.redis_url:
            foreign.add("PORT_REDIS")
        return {name: port for name, port in self.ports.items() if name not in foreign}


def _port(name: str, text: str | None, default: int) -> int:
    if not text:
        return default
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise Trouble(f"{name} must be a port number from 1 to 65535, not {text!r}.")
    return int(text)
