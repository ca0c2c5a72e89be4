"""A step as its author declares it, and what its functions may know. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, overload
from uuid import UUID

from pydantic import BaseModel

from sagas.errors import DefinitionError
from sagas.policies import CALL_TIMEOUT, PATIENT, USUAL, Cached, Fallback, Retry


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
    """A group of steps that run at the same time: `checks = parallel("checks")`, `@checks.step`."""

    name: str

    @overload
    def step(self, function: Action) -> Step: ...
    @overload
    def step(self, **options: Any) -> Callable[[Action], Step]: ...

    def step(self, function: Action | None = None, **options: Any) -> Step | Callable[[Action], Step]:
        """Like `step`, with its options or bare, as a member of this group."""
        declare = step(group=self.name, **options)
        return declare if function is None else declare(function)


def is_span(value: object) -> bool:
    """Whether it is a positive timedelta."""
    return isinstance(value, timedelta) and value > timedelta(0)


def check_step(where: str, item: Step) -> None:
    """Refuse options that the engine could not use.

    Raises:
        DefinitionError: naming the place and the mend.
    """
    limit, when, fallback = item.wait_limit, item.when, item.fallback
    wrong = {
        "`wait_limit` must be a positive timedelta": limit is not None and not is_span(limit),
        "`when` must be a function of the saga, such as lambda saga: ...": not (
            when is None or callable(when)
        ),
        "`fallback` must be one of Fallback, such as Fallback.SKIP, or Cached(max_age)": not (
            fallback is None or isinstance(fallback, Fallback | Cached)
        ),
        **_wrong_call(item.action, item),
    }
    _refuse(where, wrong)
    if item.undo is not None:
        saga = where.rpartition(".")[0]
        _refuse(f"{saga}.{item.undo.function.__name__}", _wrong_call(item.undo.function, item.undo))


def _wrong_call(function: Action, item: Step | Compensation) -> dict[str, bool]:
    return {
        "`timeout` must be a positive timedelta": not is_span(item.timeout),
        "`retry` must be a Retry, such as Retry(attempts=3)": not isinstance(item.retry, Retry),
        "must take (self, saga)": not _takes_saga(function),
    }


def _takes_saga(function: Action) -> bool:
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        return False
    return True


def _refuse(where: str, wrong: Mapping[str, bool]) -> None:
    for mend, found in wrong.items():
        if found:
            raise DefinitionError(f"{where}: {mend}")
