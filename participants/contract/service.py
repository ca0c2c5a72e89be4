"""How a participant declares its operations.

    service = Service("inventory")

    @service.action("reserve-stock")
    def reserve_stock(body: ReserveStock, call: Call) -> Outcome: ...

    @service.compensation("release-stock", undoes="reserve-stock")
    def release_stock(done: Recorded, call: Call) -> Outcome: ...

    @service.query("check-stock")
    def check_stock(body: CheckStock, call: Call) -> Outcome: ...

An action and a compensation run inside one transaction of the participant's database, together
with the record of their key; a query changes nothing and keeps no key. A wrong declaration fails
at import.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any, Literal, TypeAlias, TypeVar, get_type_hints

from participants.contract.bodies import Body
from participants.contract.outcomes import Outcome

Method: TypeAlias = Literal["GET", "POST"]

STATUS_QUERY = "operations"


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as far as operations look at it."""

    operation: str
    now: datetime
    key: str = ""
    compensates: str = ""
    saga_id: str = ""
    step: str = ""
    correlation_id: str = ""
    fingerprint: str = ""
    body: bytes = b""
    parameters: Mapping[str, str] = field(default_factory=dict)


B = TypeVar("B", bound=Body)
Effect: TypeAlias = Callable[[B, Call], Outcome]
Recorded: TypeAlias = Mapping[str, Any]  # the data of an answer, as read back from JSON
Undo: TypeAlias = Callable[[Recorded, Call], Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """An operation of a participant: its name, method, and the field its path argument fills."""

    name: str
    method: Method = "POST"
    argument: str = ""
    summary: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action(Declared):
    """An effect at most once per key. `key_optional`: without a key it is asked, not done."""

    body: type[Body]
    effect: Effect[Any]
    key_optional: bool = False
    success_status: int = HTTPStatus.OK


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensation(Declared):
    """Undoes the action named `undoes`; gets that action's recorded result, and needs no body."""

    undoes: str
    undo: Undo


@dataclass(frozen=True, slots=True, kw_only=True)
class Query(Declared):
    """Reads only: no key, no record."""

    body: type[Body]
    ask: Effect[Any]


AnyOperation: TypeAlias = Action | Compensation | Query


class Service:
    """The operations of one participant; `name` is also its app label and database alias."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.operations: dict[str, AnyOperation] = {}

    def action(
        self,
        name: str,
        *,
        method: Method = "POST",
        argument: str = "",
        key_optional: bool = False,
        success_status: int = HTTPStatus.OK,
    ) -> Callable[[Effect[B]], Effect[B]]:
        """Declare an effect; its first parameter's annotation is the model of the request."""

        def declare(function: Effect[B]) -> Effect[B]:
            self._add(
                Action(
                    name=name,
                    method=method,
                    argument=argument,
                    summary=summary_of(function),
                    body=body_of(self.name, name, function),
                    effect=function,
                    key_optional=key_optional,
                    success_status=success_status,
                )
            )
            return function

        return declare

    def compensation(self, name: str, *, undoes: str) -> Callable[[Undo], Undo]:
        """Declare what undoes the action `undoes`, which must be declared above it."""
        if not isinstance(self.operations.get(undoes), Action):
            raise TypeError(
                f"{self.name}: compensation {name!r} undoes {undoes!r}, which is no action of this "
                "participant; declare the action above it."
            )

        def declare(function: Undo) -> Undo:
            self._add(Compensation(name=name, summary=summary_of(function), undoes=undoes, undo=function))
            return function

        return declare

    def query(
        self, name: str, *, method: Method = "POST", argument: str = ""
    ) -> Callable[[Effect[B]], Effect[B]]:
        """Declare a read; its first parameter's annotation is the model of the request."""

        def declare(function: Effect[B]) -> Effect[B]:
            self._add(
                Query(
                    name=name,
                    method=method,
                    argument=argument,
                    summary=summary_of(function),
                    body=body_of(self.name, name, function),
                    ask=function,
                )
            )
            return function

        return declare

    def _add(self, operation: AnyOperation) -> None:
        if operation.name in self.operations or operation.name == STATUS_QUERY:
            raise TypeError(f"{self.name}: the name {operation.name!r} is taken; choose another.")
        self.operations[operation.name] = operation


def body_of(service: str, name: str, function: Callable[..., object]) -> type[Body]:
    """The model that the first parameter of `function` is annotated with."""
    parameter = next(iter(inspect.signature(function).parameters), "")
    model = get_type_hints(function).get(parameter)
    if not (isinstance(model, type) and issubclass(model, Body)):
        raise TypeError(f"{service}: {name!r} must annotate its first parameter with a subclass of Body.")
    return model


def summary_of(function: Callable[..., object]) -> str:
    """The first line of the docstring, for the documentation of the operation."""
    return (inspect.getdoc(function) or "").partition("\n")[0]
