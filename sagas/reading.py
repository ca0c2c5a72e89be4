"""Reads the source of a definition's functions for what no run would show before it is too late."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sagas.definition import Participant, SagaDefinition, Step


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a definition that its author should mend; `severe` ones will fail at run time."""

    code: str
    message: str
    hint: str
    severe: bool = True


def findings(definition: SagaDefinition) -> Iterator[Finding]:
    """Everything found in one definition, in the order of its steps."""
    yield from _overwritten(definition)
    for step in definition.steps:
        where = f"{type(definition).__name__}.{step.function}"
        yield from _references(definition, step, step.action, where)
        if step.undo is not None:
            undo = f"{type(definition).__name__}.{step.undo.function.__name__}"
            yield from _references(definition, step, step.undo.function, undo, own=True)
        yield from _reachable(step, where)
        yield from _inverse(definition, step, where)
        yield from _patience(definition, step, where)


def _tree(function: Callable[..., Any]) -> ast.AST | None:
    """The parsed source; None where there is none, as in an interactive session."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError, TypeError):
        return None


def _overwritten(definition: SagaDefinition) -> Iterator[Finding]:
    """Of two methods with one name Python keeps the second, and a step is silently gone."""
    cls = type(definition)
    tree = _tree(cls)
    classes = (
        [found for found in ast.walk(tree) if isinstance(found, ast.ClassDef)] if tree is not None else []
    )
    seen: set[str] = set()
    for found in classes[0].body if classes else ():
        if not isinstance(found, ast.FunctionDef):
            continue
        if found.name in seen:
            yield Finding(
                "E013",
                f"{cls.__name__}.{found.name} is declared twice, and the first is lost.",
                "Rename one of the methods; name='...' gives a step another name than its method's.",
            )
        seen.add(found.name)


def participants(step: Step) -> set[str]:
    """Names of the participants that a step's functions refer to as globals of their module."""
    functions = [step.action, *([step.undo.function] if step.undo is not None else [])]
    referred = [
        function.__globals__.get(name)
        for function in functions
        if inspect.isfunction(function)
        for name in function.__code__.co_names
    ]
    return {found.name for found in referred if isinstance(found, Participant)}


def _references(
    definition: SagaDefinition, step: Step, function: Callable[..., Any], where: str, *, own: bool = False
) -> Iterator[Finding]:
    """`saga.results.NAME` must name a step that is done by then."""
    tree = _tree(function)
    by_function = {item.function: item for item in definition.steps}
    for found in ast.walk(tree) if tree is not None else ():
        if not (isinstance(found, ast.Attribute) and isinstance(found.value, ast.Attribute)):
            continue
        if found.value.attr != "results" or found.attr in ("get", "items", "keys", "values"):
            continue
        referred = by_function.get(found.attr)
        if referred is None:
            yield Finding(
                "E010",
                f"{where} refers to results.{found.attr}, but {definition.type} has no such step.",
                f"Name one of: {', '.join(by_function)}.",
            )
        elif referred.stage >= step.stage and not (own and referred is step):
            yield Finding(
                "E011",
                f"{where} refers to the result of {referred.function}, which is not done by then.",
                f"Declare {referred.function} before {step.function}, or take the value from elsewhere.",
            )


def _reachable(step: Step, where: str) -> Iterator[Finding]:
    if step.when is None:
        return
    tree = _tree(step.when)
    for found in ast.walk(tree) if tree is not None else ():
        if isinstance(found, ast.Lambda) and isinstance(found.body, ast.Constant) and not found.body.value:
            yield Finding(
                "E012",
                f"{where} can never run: its condition is always false.",
                "Drop the step, or mend `when`.",
            )


def _inverse(definition: SagaDefinition, step: Step, where: str) -> Iterator[Finding]:
    """A POST before the last step needs an inverse, unless there is no way back from it."""
    last = step.position == len(definition.steps) - 1
    pivot = next((item.position for item in definition.steps if item.pivot), None)
    behind = pivot is not None and step.position >= pivot
    tree = _tree(step.action)
    posts = tree is not None and any(
        isinstance(found, ast.Call) and isinstance(found.func, ast.Attribute) and found.func.attr == "post"
        for found in ast.walk(tree)
    )
    if posts and step.undo is None and not last and not behind and not step.read_only:
        yield Finding(
            "W010",
            f"{where} has an effect and no compensation, and steps behind it may fail.",
            f"Declare @{step.function}.compensation, make it the pivot, or say read_only=True.",
            severe=False,
        )


def _patience(definition: SagaDefinition, step: Step, where: str) -> Iterator[Finding]:
    """Retries that outlast the saga's deadline would be cut by it."""
    retry = step.retry
    pauses = sum(retry.pause(number).total_seconds() for number in range(1, retry.attempts))
    allowed = definition.deadline.total_seconds() * (1 + definition.extensions)
    if pauses > allowed:
        yield Finding(
            "W011",
            f"{where} would retry for {pauses:g} s, but the saga is given up after {allowed:g} s.",
            "Lower attempts or cap, or raise the saga's deadline.",
            severe=False,
        )
