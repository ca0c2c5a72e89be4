"""Connections that threads share: given back while others could use them, renewed when dead."""

from typing import cast

from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper


def give_back(alias: str) -> None:
    """Lets others use the pooled connection of this thread; one that is the thread's own is kept."""
    connection = cast(DatabaseWrapper, connections[alias])
    if connection.pool and not connection.in_atomic_block:
        connection.close()


def renew(alias: str) -> None:
    """Leaves a connection that is dead, and with it those of its pool that died, too."""
    connection = cast(DatabaseWrapper, connections[alias])
    connection.close()
    if connection.pool:
        connection.pool.check()
