"""Stories and searches of steps that fall back to what the same call answered last."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from sagas.definition import Cached, Call, Participant, Retry, SagaDefinition, SagaView, step
from sagas.errors import DefinitionError
from sagas.state import SagaState, Status
from sagas.testing import Choices, Scenario, crash_matrix, given, held_back, transient, unknown, world_of
from sagas.testing.trouble import OF_CALLS, Memory, Trouble

ANSWERS: Mapping[str, Mapping[str, Any]] = {"look-up": {"price": "5.00"}}
shop = Participant("shop")


class Pricing(SagaDefinition, register=False):
    """Order at today's price, or at yesterday's if it cannot be had."""

    type = "pricing"

    @step
    def reserve(self, saga: SagaView) -> Call:
        return shop.post("reserve")

    @reserve.compensation
    def release(self, saga: SagaView) -> Call:
        return shop.post("release")

    @step(read_only=True, retry=Retry(attempts=1), fallback=Cached(timedelta(days=1)))
    def look_up(self, saga: SagaView) -> Call:
        return shop.get("price")

    @step
    def order(self, saga: SagaView) -> Call:
        return shop.post("order", price=saga.results.look_up["price"])

    def result(self, saga: SagaView) -> dict[str, Any]:
        return {"price": saga.results.look_up["price"]}


def story() -> Scenario:
    return given(Pricing).when("look-up", transient())


def test_nothing_is_known_of_a_call_unless_the_story_says_so() -> None:
    story().expect("release").ends("compensated", code="retries_exhausted")


def test_what_is_known_is_what_the_story_says() -> None:
    known = story().cached("look-up", age=timedelta(hours=1), price="4.00")
    ended = known.ends("completed", result={"price": "4.00"})
    assert ended.step("look-up").error == {"step": "look-up", "code": "cached", "reason": "data 3600.0 s old"}


def test_what_is_known_is_the_usual_answer_if_the_story_does_not_say_what() -> None:
    story().answering("look-up", price="5.00").cached("look-up").ends("completed", result={"price": "5.00"})
    story().cached("look-up").ends("completed", result={"price": "look-up.price"})


def test_what_is_too_old_is_not_used() -> None:
    day = timedelta(days=1)
    story().cached("look-up", age=day, price="4.00").ends("completed", result={"price": "4.00"})
    too_old = story().cached("look-up", age=day + timedelta(seconds=1), price="4.00")
    too_old.expect("release").ends("compensated", code="retries_exhausted")


@pytest.mark.parametrize("trouble", [unknown(), held_back(circuit_open=True)])
def test_it_is_used_for_an_unknown_outcome_and_an_open_circuit_too(trouble: Any) -> None:
    known = given(Pricing).when("look-up", trouble).cached("look-up", price="4.00")
    known.ends("completed", result={"price": "4.00"})


def test_an_answer_that_comes_is_used_before_what_is_known() -> None:
    fresh = given(Pricing).answering("look-up", price="5.00").cached("look-up", price="4.00")
    fresh.ends("completed", result={"price": "5.00"})


def test_only_a_step_with_that_fallback_knows_an_earlier_answer() -> None:
    for other in ("order", "release"):
        with pytest.raises(DefinitionError, match=f"{other!r} does not fall back to an earlier answer"):
            given(Pricing).cached(other, price="4.00")


def searched(memory: Memory) -> SagaState:
    """How the history ends in which the price is never answered, with this known of it."""
    lost = {"call of look-up #1": OF_CALLS.index(Trouble.ALWAYS_TRANSIENT)}
    choices = Choices({**lost, "last answer of look-up #1": list(Memory).index(memory)})
    state = world_of(Pricing(), answers=ANSWERS)(choices).run()
    assert choices.offered["last answer of look-up #1"] == len(Memory)
    return state


def test_a_search_knows_no_answer_a_fresh_one_and_one_too_old() -> None:
    assert searched(Memory.FRESH).status is Status.COMPLETED
    assert searched(Memory.FRESH).result == {"price": "5.00"}
    assert searched(Memory.STALE).status is Status.COMPENSATED
    assert searched(Memory.NONE).status is Status.COMPENSATED


def test_no_pair_of_failures_breaks_a_saga_that_falls_back() -> None:
    report = crash_matrix(Pricing, answers=ANSWERS, limit=600)
    assert {Status.COMPLETED, Status.FAILED, Status.COMPENSATED} <= set(report.ends), report
