"""What an author writes: topics, the groups that listen to them, and what each does. Pure.

    checkout = Topic("ecommerce.checkout.events", Input=CheckoutInput, ...)
    reservation = checkout.group("choreo-reservation")

    @reservation.on("CheckoutInitiated")
    def reserve(event: Event, call: Caller) -> Facts:
        match call(inventory.post("reserve-stock", ...)):
            case Done(result):
                return [Fact("StockReserved", {...})]
            case Refused(code, reason):
                return [Fact("StockReservationFailed", {...})]

A reaction may be run again for the same event, at any time and in any order among other events: its
calls have the key event:group, and its facts are published once. It never waits and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from pydantic import BaseModel

from sagas.calls import Call
from sagas.choreography.events import Event, Fact, Upcaster
from sagas.errors import DefinitionError
from sagas.state import Done, Refused

Facts = Sequence[Fact]


class Caller(Protocol):
    """Calls a participant on behalf of one event and group; returns only what is definite."""

    def __call__(self, call: Call, *, undoes: str = "") -> Done | Refused:
        """Make the call under the key event:group; with `undoes`, as the undoing of that key."""


Reaction = Callable[[Event, Caller], Facts]
Resignation = Callable[[Event, str], Facts]


@dataclass(frozen=True, slots=True)
class Fold:
    """One SQL statement that takes events into a table, for one as for a million.

    It reads them from the relation `events`. `%(generation)s` is that of the read model's rows.
    `forget` deletes what is known of `%(client_id)s`, in all generations.
    """

    statement: str
    forget: str = ""
    table: str = ""


@dataclass
class Group:
    """A consumer group: either reactions by type of event, or a fold over the types it names."""

    name: str
    topic: Topic
    reactions: dict[str, Reaction] = field(default_factory=dict)
    resignations: dict[str, Resignation] = field(default_factory=dict)
    fold: Fold | None = None
    fold_types: tuple[str, ...] = ()

    @property
    def types(self) -> tuple[str, ...]:
        """What it listens to."""
        return self.fold_types if self.fold is not None else tuple(self.reactions)

    def on(self, *types: str, given_up: Resignation | None = None) -> Callable[[Reaction], Reaction]:
        """Declares the reaction to these types; `given_up` tells what to publish if it never succeeds."""

        def declare(reaction: Reaction) -> Reaction:
            for type in types:
                if type not in self.topic.types or type in self.reactions:
                    raise DefinitionError(
                        f"{self.name}: {type} is no event of {self.topic.name}, or has a reaction already;"
                        " add it to the topic's `statuses`, or merge the two reactions"
                    )
                self.reactions[type] = reaction
                if given_up is not None:
                    self.resignations[type] = given_up
            return reaction

        return declare


@dataclass
class Topic:
    """A kind of business transaction told in events.

    `statuses` names every type of event and the status that it stands for; `ends` tells for those
    that end a stream whether that is a success. A stream that waits longer than `timeout` for its next
    event gets `timed_out`, and from then on takes only what follows from that. `personal` fields are
    sealed with the client's key. `upcasters` bring data of an older schema to the next one.
    """

    name: str
    first: str
    statuses: Mapping[str, str]
    ends: Mapping[str, bool]
    timed_out: str
    timeout: timedelta
    Input: type[BaseModel]
    id_field: str
    client_field: str
    personal: frozenset[str] = frozenset()
    schemas: Mapping[str, int] = field(default_factory=dict)
    upcasters: Mapping[tuple[str, int], Upcaster] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = {self.first, self.timed_out, *self.ends} - set(self.statuses)
        if missing:
            raise DefinitionError(f"{self.name}: give {sorted(missing)} a status in `statuses`")
        registry.add(self)

    @property
    def types(self) -> frozenset[str]:
        """Every type of event."""
        return frozenset(self.statuses)

    @property
    def dead_letters(self) -> str:
        """The stream of what nobody could handle."""
        return f"{self.name}.dead"

    def group(self, name: str, *types: str, fold: Fold | None = None) -> Group:
        """A new consumer group; with a `fold`, of these types or of all."""
        if name in registry.groups:
            raise DefinitionError(f"{self.name}: there is a group {name} already")
        group = Group(name, self, fold=fold, fold_types=types or tuple(self.statuses))
        self.groups[name] = registry.groups[name] = group
        return group

    def schema_of(self, type: str) -> int:
        """The version of the schema that events of a type are written in today."""
        return self.schemas.get(type, 1)

    def upcast(self, type: str, version: int, data: dict[str, Any]) -> dict[str, Any]:
        """Data written in an older schema, as if it were written today.

        Raises:
            DefinitionError: a step on the way has no upcaster.
        """
        for step in range(version, self.schema_of(type)):
            upcaster = self.upcasters.get((type, step))
            if upcaster is None:
                raise DefinitionError(f"{self.name}: give {type} an upcaster from version {step}")
            data = upcaster(data)
        return data


class Registry:
    """Every topic and group that is installed."""

    def __init__(self) -> None:
        self.topics: dict[str, Topic] = {}
        self.groups: dict[str, Group] = {}

    def add(self, topic: Topic) -> None:
        """Take in a topic; two of one name are an error."""
        if topic.name in self.topics:
            raise DefinitionError(f"there is a topic {topic.name} already; give one another name")
        self.topics[topic.name] = topic


registry = Registry()
