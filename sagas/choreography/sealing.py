"""Personal data under a key of the client's own: with the key destroyed, nobody can read it again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
from cryptography.fernet import Fernet, InvalidToken

from sagas.choreography.events import Event
from sagas.choreography.topics import Topic


def new_key() -> bytes:
    """A key for one client."""
    return Fernet.generate_key()


def seal(personal: dict[str, Any], key: bytes) -> str:
    """Personal data as text that only `key` opens; an empty text for none."""
    return Fernet(key).encrypt(orjson.dumps(personal)).decode() if personal else ""


def split(data: dict[str, Any], personal: frozenset[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What may be stored as it is, and what must be sealed."""
    return (
        {name: value for name, value in data.items() if name not in personal},
        {name: value for name, value in data.items() if name in personal},
    )


def upcast(topic: Topic, event: Event) -> Event:
    """The event with its data in today's schema."""
    if event.schema_version >= topic.schema_of(event.type):
        return event
    return replace(event, data=topic.upcast(event.type, event.schema_version, dict(event.data)))


def readable(event: Event, key: bytes | None) -> Event:
    """The event with what can still be read of it; the same object if nothing more can."""
    if not event.sealed or key is None:
        return event
    try:
        return event.with_data(orjson.loads(Fernet(key).decrypt(event.sealed.encode())))
    except InvalidToken:
        return event
