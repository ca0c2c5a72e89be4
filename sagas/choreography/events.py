"""Events: facts in the past tense, in the envelope of CloudEvents 1.0. Pure.

A stream is all that happened in one business transaction. Its id is the id of its first event, and
the id of every event that follows is derived from what caused it: whoever reacts twice, says the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

SPECVERSION = "1.0"
CONTENT_TYPE = "application/json"
OF_KEYS = UUID("5f2d1f3e-6f1c-4d55-9d51-0c8a7c1f3b42")

Data = Mapping[str, Any]
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Fact:
    """What somebody wants told: a type of event and its data, as JSON types."""

    type: str
    data: Data = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event as stored.

    `version` counts within its stream from 1, `position` grows over the whole store. `sealed` holds
    the personal part of the data, readable only with the key of `client`.
    """

    id: UUID
    topic: str
    stream: UUID
    version: int
    type: str
    schema_version: int
    source: str
    time: datetime
    correlation_id: str
    causation_id: UUID | None = None
    client: UUID | None = None
    sealed: str = ""
    data: Data = field(default_factory=dict)
    position: int = 0

    def with_data(self, more: Data) -> Event:
        """The same event, its data read out further."""
        return replace(self, data={**self.data, **more})


def requested_id(owner: object, path: str, key: str) -> UUID:
    """The id of the stream that an owner begins at a path under an idempotency key of theirs."""
    return uuid5(OF_KEYS, f"{owner}:{path}:{key}")


def following_id(cause: UUID, source: str, type: str) -> UUID:
    """The id of the event of that type that `source` publishes because of `cause`."""
    return uuid5(cause, f"{source}:{type}")


def key_of(event_id: UUID, group: str) -> str:
    """The idempotency key under which a group calls a participant because of an event."""
    return f"{event_id}:{group}"


# --- The envelope -------------------------------------------------------------------------------------


def cloudevent(event: Event) -> dict[str, Any]:
    """The event as a CloudEvent in structured mode; what is not of the standard is an extension."""
    envelope: dict[str, Any] = {
        "specversion": SPECVERSION,
        "id": str(event.id),
        "source": f"/{event.topic}/{event.source}",
        "type": event.type,
        "subject": str(event.stream),
        "time": event.time.isoformat(),
        "datacontenttype": CONTENT_TYPE,
        "dataschema": f"urn:event:{event.topic}:{event.type}:{event.schema_version}",
        "sequence": event.version,
        "position": event.position,
        "correlationid": event.correlation_id,
        "data": dict(event.data),
    }
    if event.causation_id is not None:
        envelope["causationid"] = str(event.causation_id)
    if event.client is not None:
        envelope["client"] = str(event.client)
    if event.sealed:
        envelope["sealed"] = event.sealed
    return envelope


def parse(envelope: Mapping[str, Any]) -> Event:
    """The event of an envelope.

    Raises:
        ValueError: it is none of ours, or could not be one: nothing could store it.
    """
    try:
        _, topic, source = envelope["source"].split("/", 2)
        schema = envelope["dataschema"].rpartition(":")[2]
        causation, client = envelope.get("causationid"), envelope.get("client")
        if envelope["specversion"] != SPECVERSION or not isinstance(envelope["data"], dict):
            raise ValueError("not a CloudEvent of version 1.0 with an object as data")
        texts = [str(envelope.get(name, "")) for name in ("type", "source", "correlationid", "sealed")]
        moment = datetime.fromisoformat(envelope["time"])
        if cleaned(texts) != texts or moment.tzinfo is None:
            raise ValueError("not an event: a text or time that nobody could store")
        return Event(
            id=UUID(envelope["id"]),
            topic=topic,
            stream=UUID(envelope["subject"]),
            version=_number(envelope["sequence"], 31),
            type=str(envelope["type"]),
            schema_version=_number(schema, 15),
            source=source,
            time=moment,
            correlation_id=str(envelope["correlationid"]),
            causation_id=UUID(causation) if causation else None,
            client=UUID(client) if client else None,
            sealed=str(envelope.get("sealed", "")),
            data=envelope["data"],
            position=_number(envelope["position"], 63),
        )
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"not an event: {error!r}") from None


def _number(value: Any, bits: int) -> int:
    number = int(value)
    if not 0 <= number < 2**bits:
        raise ValueError(f"not an event: {number} is out of range")
    return number


def cleaned(value: Any) -> Any:
    """JSON as PostgreSQL and UTF-8 can hold it: without NUL and halves of characters in its texts."""
    if isinstance(value, str):
        return value.replace("\0", " ").encode(errors="replace").decode()
    if isinstance(value, Mapping):
        return {cleaned(name): cleaned(item) for name, item in value.items()}
    return [cleaned(item) for item in value] if isinstance(value, list | tuple) else value


# --- Folding ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Folded:
    """What a stream has come to: the last status that an event stands for, and all that was said."""

    status: str
    version: int
    started_at: datetime
    updated_at: datetime
    data: Data


def fold(events: Sequence[Event], statuses: Mapping[str, str], ends: Collection[str]) -> Folded:
    """The state after `events`, which are one stream in order and at least one.

    What happens after the end, such as a refund, leaves the status as it is.
    """
    status, data, ended = "", dict[str, Any](), False
    for event in events:
        status = status if ended else statuses.get(event.type, status)
        ended = ended or event.type in ends
        data.update(event.data)
    return Folded(status, events[-1].version, events[0].time, events[-1].time, data)
