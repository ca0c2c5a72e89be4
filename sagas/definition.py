"""What an author writes: a saga as a class, a step as a pure function that returns the call to make.

Nothing here does I/O or knows Django. A definition is checked when its class is created, so a
wrong one fails at import with the mend in the message. Everything an author needs can be imported
from this module.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sagas.calls import Call, Child, Participant, Wait, approval, plain, signal, sleep, until
from sagas.errors import DefinitionError, InvalidInput, UnknownSagaType
from sagas.policies import CALL_TIMEOUT, PATIENT, USUAL, Cached, Fallback, Retry
from sagas.steps import Compensation, Results, SagaView, Step, check_step, is_span, parallel, step

__all__ = [
    "CALL_TIMEOUT",
    "PATIENT",
    "USUAL",
    "Cached",
    "Call",
    "Child",
    "Compensation",
    "Fallback",
    "Participant",
    "Registry",
    "Results",
    "Retry",
    "SagaDefinition",
    "SagaInput",
    "SagaView",
    "Step",
    "Wait",
    "approval",
    "parallel",
    "plain",
    "registry",
    "signal",
    "sleep",
    "step",
    "until",
]

SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
KEBAB_CASE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class SagaInput(BaseModel):
    """Base of input models: unknown fields are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SagaDefinition:
    """Base of all sagas. Subclasses give `type`, `version`, `Input` and steps in order of execution.

    `deadline` bounds the way forward; it is extended `extensions` times before the saga turns.
    `execution="inline"` lets a worker go on with the next due step instead of sending a message.
    `lock` names what the saga excludes others from: `lock = lambda i: f"order:{i.order_id}"`.
    """

    type: ClassVar[str]
    version: ClassVar[int] = 1
    Input: ClassVar[builtins.type[BaseModel]] = SagaInput
    deadline: ClassVar[timedelta] = timedelta(minutes=5)
    extensions: ClassVar[int] = 1
    execution: ClassVar[Literal["chain", "inline"]] = "chain"
    lock: ClassVar[Callable[[Any], str] | None] = None
    lock_conflict: ClassVar[Literal["wait", "refuse"]] = "wait"
    steps: ClassVar[tuple[Step, ...]] = ()

    def __init_subclass__(cls, abstract: bool = False, register: bool = True, **options: Any) -> None:
        super().__init_subclass__(**options)
        if abstract:
            return
        cls.steps = assemble(cls)
        check(cls)
        if register:
            registry.add(cls())

    def result(self, saga: SagaView) -> dict[str, Any]:
        """The saga's result once every step is done: the business ids its caller asked for."""
        return {}

    def lock_key(self, parsed: Any) -> str | None:
        """The semantic lock of a saga with this input; None if it takes none."""
        lock = self.__class__.lock  # from the class: a plain function, not bound to the definition
        return None if lock is None else str(lock(parsed))

    def by_name(self, name: str) -> Step:
        """The step of that name.

        Raises:
            DefinitionError: there is none.
        """
        for item in self.steps:
            if item.name == name:
                return item
        raise DefinitionError(f"{self.type} has no step {name!r}; it has {[s.name for s in self.steps]}")

    def declared(self, position: int, name: str) -> Step | None:
        """The step of that name at that place; None where steps have changed and `version` has not."""
        found = self.steps[position] if position < len(self.steps) else None
        return found if found is not None and found.name == name else None

    def parse(self, data: Any) -> tuple[BaseModel, Any]:
        """`data` validated by `Input`, and the same as JSON types.

        Raises:
            InvalidInput: with one entry per wrong field.
        """
        try:
            parsed = self.Input.model_validate(data)
            return parsed, plain(parsed)
        except ValidationError as error:
            raise InvalidInput(
                [
                    {"field": ".".join(map(str, item["loc"])) or "data", "message": item["msg"]}
                    for item in error.errors(include_url=False, include_context=False)
                ]
            ) from None
        except ValueError as error:  # pydantic takes "Infinity" for a float
            raise InvalidInput([{"field": "data", "message": str(error)}]) from None


def assemble(cls: type[SagaDefinition]) -> tuple[Step, ...]:
    """The steps of a class in order, inherited ones first, each with its position and stage."""
    found: dict[str, Step] = {}
    for base in reversed(cls.__mro__):
        for attribute, value in vars(base).items():
            if isinstance(value, Step):
                found[attribute] = value
    stage, previous = -1, ""
    placed: list[Step] = []
    for position, item in enumerate(found.values()):
        if not item.group or item.group != previous:
            stage += 1
        previous = item.group
        placed.append(replace(item, position=position, stage=stage))  # a copy: versions may inherit
    return tuple(placed)


def check(cls: type[SagaDefinition]) -> None:
    """Refuse a definition that cannot run.

    Raises:
        DefinitionError: naming the saga, the step and the mend.
    """
    saga = cls.__name__
    if not SNAKE_CASE.fullmatch(getattr(cls, "type", "")):
        raise DefinitionError(f"{saga}: set `type` to a snake_case name such as 'purchase_saga'")
    if not cls.steps:
        raise DefinitionError(f"{saga}: declare at least one method with @step")
    check_options(cls)
    seen: dict[str, str] = {}
    groups: set[str] = set()
    for index, item in enumerate(cls.steps):
        names = [item.name] + ([item.undo.name] if item.undo else [])
        for name in names:
            if not KEBAB_CASE.fullmatch(name):
                raise DefinitionError(f"{saga}.{item.function}: {name!r} is not kebab-case; give name='...'")
            if name in seen:
                raise DefinitionError(f"{saga}.{item.function}: the name {name!r} is taken by {seen[name]}")
            seen[name] = item.function
        if hasattr(SagaDefinition, item.function):
            raise DefinitionError(
                f"{saga}.{item.function}: every definition has a {item.function!r} of its own; rename the "
                f"method, and give name={item.name!r} to keep the step's name"
            )
        check_step(f"{saga}.{item.function}", item)
        if item.group and item.group in groups and cls.steps[index - 1].group != item.group:
            raise DefinitionError(
                f"{saga}.{item.function}: members of parallel group {item.group!r} must stand together"
            )
        groups.add(item.group)
    check_pivot(cls)


def check_options(given: Any) -> None:
    """What a definition says of the saga as a whole; an author may have given anything."""
    asked = {
        "version": (_counts(given.version, 1), "counts from 1"),
        "Input": (
            isinstance(given.Input, type) and issubclass(given.Input, BaseModel),
            "must be a pydantic model, such as a subclass of SagaInput",
        ),
        "deadline": (is_span(given.deadline), "must be a positive timedelta"),
        "extensions": (_counts(given.extensions, 0), "counts from 0"),
        "execution": (given.execution in ("chain", "inline"), "is 'chain' or 'inline'"),
        "lock": (
            given.lock is None or callable(given.lock),
            "must be a function of the input, such as lambda i: f'order:{i.order_id}'",
        ),
        "lock_conflict": (given.lock_conflict in ("wait", "refuse"), "is 'wait' or 'refuse'"),
    }
    for name, (right, mend) in asked.items():
        if not right:
            raise DefinitionError(f"{given.__name__}: `{name}` {mend}")


def _counts(value: object, first: int) -> bool:
    return isinstance(value, int) and value >= first


def check_pivot(cls: type[SagaDefinition]) -> None:
    """At most one pivot, alone in its stage; nothing behind it can be undone or needs to be."""
    pivots = [item for item in cls.steps if item.pivot]
    if not pivots:
        return
    if len(pivots) > 1:
        raise DefinitionError(f"{cls.__name__}: two pivots, {', '.join(p.name for p in pivots)}; keep one")
    pivot = pivots[0]
    if pivot.group or pivot.undo is not None:
        raise DefinitionError(
            f"{cls.__name__}.{pivot.function}: a pivot stands alone and has no compensation; "
            "take it out of its group, or drop pivot=True"
        )
    if pivot.fallback is Fallback.SKIP or isinstance(pivot.fallback, Cached):
        raise DefinitionError(
            f"{cls.__name__}.{pivot.function}: a pivot is never left out nor done from a cache; "
            "drop its `fallback`, or give Fallback.RETRY_LATER or Fallback.COMPENSATE"
        )
    for item in cls.steps[pivot.position + 1 :]:
        if item.undo is not None:
            raise DefinitionError(
                f"{cls.__name__}.{item.function}: behind the pivot {pivot.name!r} nothing is undone; "
                "drop its compensation or move it before the pivot"
            )


@dataclass(slots=True)
class Registry:
    """The definitions this process has code for, by type and version."""

    by_key: dict[tuple[str, int], SagaDefinition] = field(default_factory=dict)

    def add(self, definition: SagaDefinition) -> None:
        """Register; the same class again (a module imported under two names) is refused."""
        key = (definition.type, definition.version)
        known = self.by_key.get(key)
        if known is not None:
            raise DefinitionError(
                f"{type(definition).__name__}: {key[0]} version {key[1]} is already "
                f"{type(known).__module__}.{type(known).__name__}; raise `version` or rename `type`"
            )
        self.by_key[key] = definition

    def get(self, saga_type: str, version: int) -> SagaDefinition:
        """The definition with that key.

        Raises:
            UnknownSagaType: this process has no such code.
        """
        try:
            return self.by_key[saga_type, version]
        except KeyError:
            raise UnknownSagaType(f"no code for {saga_type} version {version} in this process") from None

    def latest(self, saga_type: str) -> SagaDefinition:
        """The newest version of a type.

        Raises:
            UnknownSagaType: no version of it is installed.
        """
        versions = [version for known, version in self.by_key if known == saga_type]
        if not versions:
            types = ", ".join(self.types()) or "none"
            raise UnknownSagaType(f"unknown saga type {saga_type!r}; installed: {types}")
        return self.by_key[saga_type, max(versions)]

    def types(self) -> list[str]:
        """Every installed type, sorted."""
        return sorted({saga_type for saga_type, _ in self.by_key})


registry = Registry()
