"""What an author declares, and how a wrong declaration is refused: saga, step and mend are named."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from types import new_class
from typing import Any
from uuid import UUID

import pytest

from sagas.definition import (
    Cached,
    Call,
    Fallback,
    Participant,
    Registry,
    Results,
    Retry,
    SagaDefinition,
    SagaInput,
    SagaView,
    parallel,
    plain,
    step,
    until,
)
from sagas.errors import DefinitionError, InvalidInput, UnknownSagaType
from sagas.reading import findings, participants
from tests.definitions import Chain, Group

shop = Participant("shop")


def call(self: Any, saga: SagaView) -> Call:
    """An action."""
    return shop.post("do")


def undo(self: Any, saga: SagaView) -> Call:
    """An inverse."""
    return shop.post("undo")


def named(function: Callable[..., Any], name: str) -> Any:
    """A copy of a function under another name."""

    def copy(self: Any, saga: SagaView) -> Any:
        return function(self, saga)

    copy.__name__ = name
    return copy


def declare(**attributes: Any) -> type[SagaDefinition]:
    """A definition with these attributes."""
    made: type[SagaDefinition] = new_class(
        "Wrong",
        (SagaDefinition,),
        {"register": False},
        lambda namespace: namespace.update({"type": "wrong", **attributes}),
    )
    return made


def with_undo(name: str, inverse: str, **options: Any) -> Any:
    """A step with a compensation."""
    made = step(**options)(named(call, name))
    made.compensation(named(undo, inverse))
    return made


def with_undo_options(name: str, inverse: str, **options: Any) -> Any:
    """A step whose compensation has options."""
    made = step(named(call, name))
    made.compensation(**options)(named(undo, inverse))
    return made


def no_saga(self: Any) -> Call:
    """An action that takes too little."""
    return shop.post("do")


# Options of wrong types are what these are about.
loose: Any = step
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "type": ({"type": "Not Snake", "do": step(call)}, r"Wrong: set `type` to a snake_case name"),
    "version": ({"version": 0, "do": step(call)}, r"Wrong: `version` counts from 1"),
    "no steps": ({}, r"Wrong: declare at least one method with @step"),
    "deadline": (
        {"deadline": timedelta(0), "do": step(call)},
        r"Wrong: `deadline` must be a positive timedelta",
    ),
    "name": (
        {"do": step(name="Do It")(call)},
        r"Wrong\.call: 'Do It' is not kebab-case; give name='\.\.\.'",
    ),
    "names collide": (
        {"one": step(named(call, "one")), "two": step(name="one")(named(call, "two"))},
        r"Wrong\.two: the name 'one' is taken by one",
    ),
    "compensation collides": (
        {"one": with_undo("one", "two"), "two": step(named(call, "two"))},
        r"Wrong\.two: the name 'two' is taken by one",
    ),
    "timeout": (
        {"do": step(timeout=timedelta(0))(call)},
        r"Wrong\.call: `timeout` must be a positive timedelta",
    ),
    "timeout in seconds": ({"do": loose(timeout=30)(call)}, r"Wrong\.call: `timeout` must be a positive"),
    "timeout of the inverse": (
        {"one": with_undo_options("one", "back", timeout=30)},
        r"Wrong\.back: `timeout` must be a positive timedelta",
    ),
    "retry": ({"do": loose(retry=3)(call)}, r"Wrong\.call: `retry` must be a Retry, such as Retry"),
    "fallback": ({"do": loose(fallback="skip")(call)}, r"Wrong\.call: `fallback` must be one of Fallback"),
    "condition": ({"do": loose(when=True)(call)}, r"Wrong\.call: `when` must be a function of the saga"),
    "wait limit": ({"do": loose(wait_limit=9)(call)}, r"Wrong\.call: `wait_limit` must be a positive"),
    "arguments": ({"do": loose(no_saga)}, r"Wrong\.no_saga: must take \(self, saga\)"),
    "a name that is taken": ({"result": step(named(call, "result"))}, r"Wrong\.result: .* rename the method"),
    "input": ({"Input": dict, "do": step(call)}, r"Wrong: `Input` must be a pydantic model"),
    "execution": ({"execution": "inlin", "do": step(call)}, r"Wrong: `execution` is 'chain' or 'inline'"),
    "extensions": ({"extensions": -1, "do": step(call)}, r"Wrong: `extensions` counts from 0"),
    "lock": ({"lock": "order", "do": step(call)}, r"Wrong: `lock` must be a function of the input"),
    "lock conflict": ({"lock_conflict": "", "do": step(call)}, r"Wrong: `lock_conflict` is 'wait' or"),
    "deadline in seconds": ({"deadline": 300, "do": step(call)}, r"Wrong: `deadline` must be a positive"),
    "torn group": (
        {
            "one": step(group="pair")(named(call, "one")),
            "two": step(named(call, "two")),
            "three": step(group="pair")(named(call, "three")),
        },
        r"Wrong\.three: members of parallel group 'pair' must stand together",
    ),
    "two pivots": (
        {"one": step(pivot=True)(named(call, "one")), "two": step(pivot=True)(named(call, "two"))},
        r"Wrong: two pivots, one, two; keep one",
    ),
    "pivot in group": (
        {"one": step(pivot=True, group="pair")(named(call, "one"))},
        r"Wrong\.one: a pivot stands alone and has no compensation; take it out of its group",
    ),
    "pivot with compensation": (
        {"one": with_undo("one", "back", pivot=True)},
        r"Wrong\.one: a pivot stands alone and has no compensation; .* drop pivot=True",
    ),
    "pivot that may be left out": (
        {"one": step(pivot=True, fallback=Fallback.SKIP)(named(call, "one"))},
        r"Wrong\.one: a pivot is never left out nor done from a cache; drop its `fallback`",
    ),
    "pivot from a cache": (
        {"one": step(pivot=True, fallback=Cached(timedelta(days=1)))(named(call, "one"))},
        r"Wrong\.one: a pivot is never left out nor done from a cache; drop its `fallback`",
    ),
    "compensation behind the pivot": (
        {"one": step(pivot=True)(named(call, "one")), "two": with_undo("two", "back")},
        r"Wrong\.two: behind the pivot 'one' nothing is undone; drop its compensation or move it",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_declaration_is_refused_with_its_mend(case: str) -> None:
    attributes, message = WRONG[case]
    with pytest.raises(DefinitionError, match=message):
        declare(**attributes)


def test_a_step_has_one_compensation() -> None:
    made = with_undo("one", "back")
    with pytest.raises(DefinitionError, match="step 'one' has two compensations; keep one"):
        made.compensation(undo)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attempts": 0}, r"Retry\(attempts=0\): the first attempt counts, use 1 or more"),
        ({"jitter": 1.5}, r"Retry\(jitter=1\.5\): give a share between 0 and 1"),
        ({"factor": 0.5}, r"factor is 1 or more"),
        ({"base": timedelta(seconds=-1)}, r"base and cap cannot be negative"),
        ({"on": frozenset({"refused"})}, r"only 'transient' and 'unknown' can be retried"),
    ],
)
def test_a_wrong_retry_policy_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Retry(**options)


def test_a_naive_moment_is_refused() -> None:
    with pytest.raises(DefinitionError, match="give an aware datetime"):
        until(datetime(2030, 1, 1))


# --- Delays -------------------------------------------------------------------------------------------


def test_delays_are_2_s_then_4_s_within_their_jitter() -> None:
    policy = Retry()
    for number, seconds in ((1, 2.0), (2, 4.0), (3, 8.0)):
        delays = {policy.delay(number, f"saga {n}").total_seconds() for n in range(200)}
        assert seconds * 0.9 <= min(delays) < seconds * 0.95
        assert seconds * 1.05 < max(delays) <= seconds * 1.1


def test_a_delay_is_the_same_for_the_same_seed_and_capped() -> None:
    policy = Retry(jitter=0, cap=timedelta(seconds=5))
    assert [policy.delay(n, "a").total_seconds() for n in (1, 2, 3, 1000)] == [2, 4, 5, 5]
    assert Retry().delay(1, "a") == Retry().delay(1, "a") != Retry().delay(1, "b")


# --- Assembly -----------------------------------------------------------------------------------------


def test_steps_stand_in_order_and_members_of_a_group_share_a_stage() -> None:
    assert [(s.name, s.position, s.stage) for s in Group.steps] == [
        ("before", 0, 0),
        ("left", 1, 1),
        ("right", 2, 1),
        ("join", 3, 2),
    ]


def test_a_new_version_may_inherit_and_replace_steps() -> None:
    class Second(Chain, register=False):
        version = 2

        @step
        def third(self, saga: SagaView) -> Call:
            return shop.post("third-way")

    assert [s.name for s in Second.steps] == ["first", "second", "third", "last"]
    assert Second.steps[2].undo is None
    assert Chain.steps[2].undo is not None


def test_a_step_is_found_by_its_name() -> None:
    assert Chain().by_name("second").position == 1
    with pytest.raises(DefinitionError, match=r"chain has no step 'fifth'; it has \['first'"):
        Chain().by_name("fifth")


# --- Calls and values ---------------------------------------------------------------------------------


class Colour(Enum):
    RED = "red"


class Basket(SagaInput):
    price: Decimal
    count: int


def test_calls_carry_their_arguments_as_exact_text() -> None:
    sent = shop.post("reserve", price=Decimal("2.50"), items=[Basket(price=Decimal("1.10"), count=2)])
    assert (sent.method, sent.path) == ("POST", "/saga/reserve")
    assert sent.body == '{"price":"2.50","items":[{"price":"1.10","count":2}]}'
    asked = shop.get("validate", 7, "a/b", action="sell", store=None, tags=["x", "y"])
    assert asked.path == "/saga/validate/7/a%2Fb?action=sell&tags=x&tags=y"
    assert asked.body == ""


def test_values_become_plain_json() -> None:
    made = plain(
        {
            "colour": Colour.RED,
            "day": date(2030, 1, 2),
            "at": datetime(2030, 1, 2, tzinfo=UTC),
            "id": UUID(int=1),
            1: (True, None, 1.5, "x"),
        }
    )
    assert json.loads(json.dumps(made)) == made
    assert (made["colour"], made["1"]) == ("red", [True, None, 1.5, "x"])
    with pytest.raises(TypeError, match="object has no JSON form"):
        plain(object())


def test_results_know_their_steps() -> None:
    results = Results({"first": {"id": 1}, "second": None})
    assert results.first["id"] == 1
    assert results.second == {}
    assert list(results) == ["first", "second"]
    assert len(results) == 2
    with pytest.raises(AttributeError, match="no step 'third' in this saga; it has first, second"):
        _ = results.third


def test_input_errors_name_their_fields() -> None:
    definition = declare(do=step(call), Input=Basket)()
    with pytest.raises(InvalidInput) as caught:
        definition.parse({"price": "x", "more": 1})
    assert {error["field"] for error in caught.value.errors} == {"price", "count", "more"}


# --- Registry -----------------------------------------------------------------------------------------


def test_versions_stand_side_by_side() -> None:
    registry = Registry()
    one = declare(do=step(call))()
    two = declare(do=step(call), version=2)()
    registry.add(one)
    registry.add(two)
    assert registry.get("wrong", 1) is one
    assert registry.latest("wrong") is two
    assert registry.types() == ["wrong"]


def test_the_same_version_twice_is_refused() -> None:
    registry = Registry()
    registry.add(declare(do=step(call))())
    with pytest.raises(DefinitionError, match=r"wrong version 1 is already .*; raise `version` or rename"):
        registry.add(declare(do=step(call))())


def test_what_is_not_installed_is_named() -> None:
    registry = Registry()
    registry.add(Chain())
    with pytest.raises(UnknownSagaType, match="no code for chain version 3 in this process"):
        registry.get("chain", 3)
    with pytest.raises(UnknownSagaType, match="unknown saga type 'chian'; installed: chain"):
        registry.latest("chian")


# --- Reading the source -------------------------------------------------------------------------------


class Careless(SagaDefinition, register=False):
    """Everything that can only be found by reading."""

    type = "careless"
    deadline = timedelta(seconds=10)
    extensions = 0
    pair = parallel("pair")

    @step(retry=Retry(attempts=5, jitter=0))
    def no_inverse(self, saga: SagaView) -> Call:
        return shop.post("do", later=saga.results.summary["x"])

    @pair.step(when=lambda saga: False)
    def unreachable(self, saga: SagaView) -> Call:
        return shop.get("look")

    @pair.step()
    def sibling(self, saga: SagaView) -> Call:
        return shop.get("look", other=saga.results.unreachable["x"], typo=saga.results.unreachible)

    @step
    def summary(self, saga: SagaView) -> dict[str, Any]:
        return {"x": saga.results.sibling.get("x")}


def test_reading_finds_what_no_import_can() -> None:
    found = {(item.code, item.message.split(" ")[0]): item for item in findings(Careless())}
    assert set(found) == {
        ("E011", "Careless.no_inverse"),
        ("W010", "Careless.no_inverse"),
        ("W011", "Careless.no_inverse"),
        ("E012", "Careless.unreachable"),
        ("E011", "Careless.sibling"),
        ("E010", "Careless.sibling"),
    }
    assert all(item.hint for item in found.values())
    assert "Declare @no_inverse.compensation" in found["W010", "Careless.no_inverse"].hint


class Twice(SagaDefinition, register=False):
    """One method too many of one name."""

    type = "twice"

    @step
    def do(self, saga: SagaView) -> Call:
        return shop.get("first")

    @step  # type: ignore[no-redef]  # the mistake that is to be found
    def do(self, saga: SagaView) -> Call:  # noqa: F811  likewise
        return shop.get("second")


def test_reading_finds_a_step_that_another_of_its_name_replaced() -> None:
    (found,) = findings(Twice())
    assert (found.code, found.severe) == ("E013", True)
    assert found.message.startswith("Twice.do is declared twice")


def test_reading_finds_whom_a_step_calls() -> None:
    assert [participants(item) for item in Chain().steps] == [{"shop"}] * 4


def test_reading_finds_nothing_in_sound_definitions() -> None:
    assert not [item for shape in (Chain, Group) for item in findings(shape())]


def test_a_number_that_json_has_not_is_wrong_input() -> None:
    class Weighed(SagaDefinition, register=False):
        """A weight."""

        type = "weighed"

        class Input(SagaInput):
            kilograms: float

        @step
        def weigh(self, saga: SagaView) -> float:
            return float(saga.input.kilograms)

    assert Weighed().parse({"kilograms": "1.5"})[1] == {"kilograms": 1.5}
    with pytest.raises(InvalidInput, match="JSON has no number inf"):
        Weighed().parse({"kilograms": "Infinity"})


@pytest.mark.parametrize("value", [float("inf"), [float("nan")], {"x": -float("inf")}])
def test_a_number_that_json_has_not_has_no_plain_form(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON has no number"):
        plain(value)
