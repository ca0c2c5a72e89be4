"""What an author writes: a saga as a class, a step as a pure function that returns the call to make.

Nothing here does I/O or knows Django. A definition is checked when its class is created, so a
wrong one fails at import with the mend in the message. Everything an author needs can be imported
from this module.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, ClassVar, Literal, TypeVar, overload
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from sagas.calls import Call, Child, Participant, Wait, approval, plain, signal, sleep, until
from sagas.errors import DefinitionError, InvalidInput, UnknownSagaType
from sagas.policies import CALL_TIMEOUT, PATIENT, USUAL, Cached, Fallback, Retry

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


class Results(Mapping[str, Mapping[str, Any]]):
    """Results of the steps by function name; a step without one has an empty result."""

    def __init__(self, by_step: Mapping[str, Any]) -> None:
        self._by_step = by_step

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(str(error)) from None

    def __getitem__(self, name: str) -> Any:
        if name not in self._by_step:
            raise KeyError(f"no step {name!r} in this saga; it has {', '.join(self._by_step)}")
        value = self._by_step[name]
        return {} if value is None else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_step)

    def __len__(self) -> int:
        return len(self._by_step)


class SagaView:
    """What a step function may know: the saga's identity, its input and the results so far."""

    __slots__ = ("_data", "_input", "_model", "correlation_id", "id", "results")

    def __init__(
        self, saga_id: UUID, correlation_id: str, model: type[BaseModel], data: Any, results: Results
    ) -> None:
        self.id = saga_id
        self.correlation_id = correlation_id
        self.results = results
        self._model = model
        self._data = data
        self._input: BaseModel | None = None

    @property
    def input(self) -> Any:
        """The validated input, an instance of the definition's `Input`."""
        if self._input is None:
            self._input = self._model.model_validate(self._data)
        return self._input


Action = Callable[[Any, SagaView], Any]
Declared = TypeVar("Declared", bound=Action)
Condition = Callable[[SagaView], bool]


@dataclass(frozen=True, slots=True)
class Compensation:
    """The inverse of a step: what to call, and how patiently."""

    name: str
    function: Action
    retry: Retry
    timeout: timedelta


@dataclass(eq=False)
class Step:
    """One local transaction of a saga, at one participant or in the process itself.

    `action` returns a `Call`, or a plain value that becomes the step's result at once.
    `position` and `stage` are set when the definition is assembled: steps of one stage run in
    parallel, stages one after the other.
    """

    function: str
    action: Action
    name: str
    retry: Retry
    timeout: timedelta
    pivot: bool = False
    when: Condition | None = None
    fallback: Fallback | Cached | None = None
    group: str = ""
    wait_limit: timedelta | None = None
    read_only: bool = False
    undo: Compensation | None = None
    position: int = -1
    stage: int = -1

    @overload
    def compensation(self, function: Declared) -> Declared: ...
    @overload
    def compensation(
        self, *, name: str | None = None, retry: Retry = ..., timeout: timedelta = ...
    ) -> Callable[[Declared], Declared]: ...

    def compensation(
        self,
        function: Action | None = None,
        *,
        name: str | None = None,
        retry: Retry = PATIENT,
        timeout: timedelta = CALL_TIMEOUT,
    ) -> Any:
        """Declare the function below as the inverse of this step."""

        def declare(inverse: Action) -> Action:
            if self.undo is not None:
                raise DefinitionError(f"step {self.name!r} has two compensations; keep one")
            self.undo = Compensation(name or kebab(inverse.__name__), inverse, retry, timeout)
            return inverse

        return declare if function is None else declare(function)


def kebab(name: str) -> str:
    """`reserve_stock` as `reserve-stock`."""
    return name.strip("_").replace("_", "-")


@overload
def step(function: Action) -> Step: ...
@overload
def step(
    *,
    name: str | None = None,
    retry: Retry = ...,
    timeout: timedelta = ...,
    pivot: bool = False,
    when: Condition | None = None,
    fallback: Fallback | Cached | None = None,
    group: str = "",
    wait_limit: timedelta | None = None,
    read_only: bool = False,
) -> Callable[[Action], Step]: ...


def step(
    function: Action | None = None,
    *,
    name: str | None = None,
    retry: Retry = USUAL,
    timeout: timedelta = CALL_TIMEOUT,
    pivot: bool = False,
    when: Condition | None = None,
    fallback: Fallback | Cached | None = None,
    group: str = "",
    wait_limit: timedelta | None = None,
    read_only: bool = False,
) -> Step | Callable[[Action], Step]:
    """Declare the method below as the next step of the saga; its name in kebab-case is the step's.

    `timeout` bounds one call. `when` is asked as the step falls due; if it says no, the step is
    skipped. A `pivot` is the point of no return. `fallback` says what a failure means.
    `wait_limit` bounds the wait for a participant's callback or a child saga's end.
    `read_only` says that a POST has no effect, so that no check asks for its compensation.
    """

    def declare(action: Action) -> Step:
        return Step(
            function=action.__name__,
            action=action,
            name=name or kebab(action.__name__),
            retry=retry,
            timeout=timeout,
            pivot=pivot,
            when=when,
            fallback=fallback,
            group=group,
            wait_limit=wait_limit,
            read_only=read_only,
        )

    return declare if function is None else declare(function)


@dataclass(frozen=True, slots=True)
class parallel:
    """A group of steps that run at the same time: `checks = parallel("checks")`, `@checks.step()`."""

    name: str

    def step(self, **options: Any) -> Callable[[Action], Step]:
        """Like `step`, as a member of this group."""
        return step(group=self.name, **options)


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

    def parse(self, data: Any) -> BaseModel:
        """`data` validated by `Input`.

        Raises:
            InvalidInput: with one entry per wrong field.
        """
        try:
            return self.Input.model_validate(data)
        except ValidationError as error:
            raise InvalidInput(
                [
                    {"field": ".".join(map(str, item["loc"])) or "data", "message": item["msg"]}
                    for item in error.errors(include_url=False, include_context=False)
                ]
            ) from None


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
    if cls.version < 1:
        raise DefinitionError(f"{saga}: `version` counts from 1")
    if not cls.steps:
        raise DefinitionError(f"{saga}: declare at least one method with @step")
    if cls.deadline <= timedelta(0):
        raise DefinitionError(f"{saga}: `deadline` must be a positive timedelta")
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
        if item.timeout <= timedelta(0):
            raise DefinitionError(f"{saga}.{item.function}: `timeout` must be a positive timedelta")
        if item.group and item.group in groups and cls.steps[index - 1].group != item.group:
            raise DefinitionError(
                f"{saga}.{item.function}: members of parallel group {item.group!r} must stand together"
            )
        groups.add(item.group)
    check_pivot(cls)


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
