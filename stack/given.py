"""The servers that are given by URL: do they answer, and are they new and wide enough?"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
import psycopg
import redis

from stack.config import Config
from stack.errors import Trouble
from stack.programs import OLDEST_POSTGRES

SCHEMES = ("postgresql", "postgres", "pgsql")
PATIENCE = 5
# What the processes of a stack hold at most, all pools full, with a few for whoever looks on.
CONNECTIONS_NEEDED = 90


def require_given(config: Config) -> None:
    """Raises Trouble unless every server that `config` gives by URL answers."""
    if config.database_url is not None:
        require_postgres(config.database_url)
    if config.redis_url is not None:
        require_redis(config.redis_url)


def require_postgres(url: str) -> None:
    """Raises Trouble unless a PostgreSQL that is new and wide enough answers at `url`.

    The database may be missing.
    """
    try:
        if urlsplit(url).scheme not in SCHEMES:
            raise ValueError("it names no PostgreSQL")
        major, connections = postgres_facts(dj_database_url.parse(url))
    except (psycopg.Error, ValueError) as error:
        reason = " ".join(str(error).split())
        raise Trouble(
            f"DATABASE_URL: no PostgreSQL answers there ({reason}).\n"
            "Mend it (postgresql://user:password@host:port/name), or leave it out."
        ) from error
    if major < OLDEST_POSTGRES:
        raise Trouble(f"DATABASE_URL: that is PostgreSQL {major}; {OLDEST_POSTGRES} or later is needed.")
    if connections < CONNECTIONS_NEEDED:
        raise Trouble(
            f"DATABASE_URL: that server allows {connections} connections, and a stack may hold "
            f"{CONNECTIONS_NEEDED}.\nRaise its max_connections (100 by default) and restart it."
        )


def postgres_facts(database: Mapping[str, Any]) -> tuple[int, int]:
    """Major version and max_connections of the server of Django's settings `database`.

    Raises psycopg.Error.
    """
    server = {
        "host": database["HOST"],
        "port": database["PORT"] or None,
        "user": database["USER"],
        "password": database["PASSWORD"],
        "connect_timeout": PATIENCE,
        **database.get("OPTIONS", {}),
    }
    try:
        connection = psycopg.connect(dbname=database["NAME"], **server)
    except psycopg.OperationalError as error:
        if "does not exist" not in str(error):
            raise
        connection = psycopg.connect(dbname="postgres", **server)
    with connection:
        row = connection.execute("SELECT current_setting('max_connections')::int").fetchone()
        return connection.info.server_version // 10_000, row[0] if row else 0


def require_redis(url: str) -> None:
    """Raises Trouble unless a Redis answers at `url`."""
    try:
        with redis.Redis.from_url(url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        raise Trouble(
            f"REDIS_URL: no Redis answers there ({error}).\n"
            "Mend it (redis://:password@host:port/0), or leave it out."
        ) from error
