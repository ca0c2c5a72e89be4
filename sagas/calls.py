"""What a step may return: a call to a participant, a wait, a child saga, or a plain value. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Literal
from urllib.parse import quote, urlencode
from uuid import UUID

from pydantic import BaseModel

from sagas.errors import DefinitionError


def plain(value: Any) -> Any:
    """`value` as JSON types: decimals, dates and ids become strings, models become objects.

    Raises:
        TypeError: it has no form in JSON.
        ValueError: it is a number that JSON has not (RFC 8259, 6).
    """
    match value:
        case Enum():
            return plain(value.value)
        case float() if not math.isfinite(value):
            raise ValueError(f"JSON has no number {value}")
        case None | bool() | int() | float() | str():
            return value
        case Decimal() | UUID():
            return str(value)
        case datetime() | date():
            return value.isoformat()
        case BaseModel():
            return plain(value.model_dump(mode="json"))
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no JSON form; return strings, numbers, lists and objects")


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a participant; `body` is the exact text that every attempt sends."""

    participant: str
    method: Literal["GET", "POST"]
    path: str
    body: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Returned by a step that waits: for a signal, for an approval, or for a time."""

    kind: Literal["signal", "approval", "timer"]
    name: str = ""
    timeout: timedelta | None = None
    until: datetime | None = None


def signal(name: str, timeout: timedelta | None = None) -> Wait:
    """Wait for `POST /api/v1/sagas/{id}/signals/{name}`; its data becomes the step's result."""
    return Wait("signal", name, timeout)


def approval(name: str = "approval", timeout: timedelta | None = None) -> Wait:
    """Wait for an operator's yes (`{"approved": true, ...}` is the result) or no (a refusal)."""
    return Wait("approval", name, timeout)


def sleep(delay: timedelta) -> Wait:
    """Wait for `delay`, of days if need be: a row with a time, no task and no countdown."""
    return Wait("timer", timeout=delay)


def until(moment: datetime) -> Wait:
    """Wait until an aware datetime."""
    if moment.tzinfo is None:
        raise DefinitionError("until(): give an aware datetime, such as one with tzinfo=UTC")
    return Wait("timer", until=moment)


@dataclass(frozen=True, slots=True)
class Child:
    """Returned by a step that starts another saga and takes its result."""

    type: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Participant:
    """A service by name; where it lives is configuration.

    `post("reserve-stock", store_id=1)` calls `POST <url>/saga/reserve-stock` with a JSON body;
    `get("validate-employee", 7, action="sell")` calls `GET <url>/saga/validate-employee/7?action=sell`.
    """

    name: str

    def post(self, operation: str, /, **body: Any) -> Call:
        """A call with effects, its arguments as the JSON body."""
        return Call(self.name, "POST", f"/saga/{operation}", json.dumps(plain(body), separators=(",", ":")))

    def get(self, operation: str, /, *ids: object, **query: Any) -> Call:
        """A call whose arguments are path segments and query parameters (those that are not None)."""
        path = "/".join(["/saga", operation, *(quote(str(part), safe="") for part in ids)])
        given = {name: plain(value) for name, value in query.items() if value is not None}
        return Call(self.name, "GET", f"{path}?{urlencode(given, doseq=True)}" if given else path)
