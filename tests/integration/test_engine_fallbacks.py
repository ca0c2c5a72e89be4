"""What a step's declared fallback does when its participant's circuit is open, or its patience over."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from pytest_django import Settings

from sagas import breaker, engine
from sagas.definition import Cached, Call, Fallback, Participant, Retry, SagaDefinition, SagaView, step
from sagas.models import SagaEvent
from sagas.results import cached_result, keep_result
from sagas.state import Effect, SagaState, Status, StepState, StepStatus, Unknown
from tests.definitions import Chain, shop
from tests.engine import deliver, drive, hasten, kinds, registered
from tests.scripted import BUSY, Says, Scripted, refuses

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("bells")]
bank = Participant("bank")
MAX_AGE = timedelta(hours=1)


class Priced(SagaDefinition, register=False):
    """Does with a price of the last hour."""

    type = "priced"

    @step(retry=Retry(attempts=1), fallback=Cached(max_age=MAX_AGE))
    def price(self, saga: SagaView) -> Call:
        return shop.get("price", 7)

    @step
    def pay(self, saga: SagaView) -> Call:
        return bank.post("pay", amount=saga.results.price["amount"])


class Hasty(SagaDefinition, register=False):
    """Does not wait for a participant whose circuit is open."""

    type = "hasty"

    @step
    def book(self, saga: SagaView) -> Call:
        return bank.post("book")

    @book.compensation
    def unbook(self, saga: SagaView) -> Call:
        return bank.post("unbook")

    @step(fallback=Fallback.COMPENSATE)
    def ship(self, saga: SagaView) -> Call:
        return shop.post("ship")


@pytest.fixture(autouse=True)
def definitions(scripted: Scripted, settings: Settings) -> Iterator[None]:
    """Code for the sagas of these tests, and a bank beside the shop."""
    places = settings.SAGAS["PARTICIPANTS"]
    settings.SAGAS = settings.SAGAS | {"PARTICIPANTS": places | {"bank": {"url": scripted.url}}}
    with registered(Priced, Hasty, Chain):
        yield


def start(definition: type[SagaDefinition]) -> SagaState:
    return engine.start(definition.type, {}).state


def open_circuit() -> None:
    """Have the shop fail until nobody calls it any more."""
    for _ in range(5):
        breaker.of("shop").note(breaker.new_ticket(), Unknown("no answer"))
    assert breaker.inspect()["shop"]["state"] == "open"


def priced_before(scripted: Scripted, age: timedelta) -> None:
    """The shop has told its price, that long ago."""
    scripted.will("price", Says(data={"amount": "9.99"}))
    before = drive(start(Priced).id)
    assert before.status is Status.COMPLETED
    request = before.steps[0].request
    assert request is not None
    now = engine.clock.now()
    known = cached_result(request, now)
    assert known is not None, "the worker has kept nothing"
    keep_result(request, known.result, now - age)
    scripted.received.clear()


@pytest.mark.parametrize("trouble", ["circuit open", "given up"])
def test_a_step_completes_with_what_was_answered_last_and_says_how_old_it_is(
    scripted: Scripted, trouble: str
) -> None:
    priced_before(scripted, age := timedelta(minutes=10))
    if trouble == "circuit open":
        open_circuit()
    else:
        scripted.will("price", BUSY)
    after = drive(start(Priced).id)
    assert after.status is Status.COMPLETED
    price = after.steps[0]
    assert (price.status, price.result) == (StepStatus.COMPLETED, {"amount": "9.99"})
    assert price.effect is Effect.NONE, "there is nothing to undo"
    assert (price.error or {})["code"] == "cached"
    detail = SagaEvent.objects.get(saga_id=after.id, kind="step_cached").detail
    assert age.total_seconds() <= detail["age_seconds"] < age.total_seconds() + 60
    assert scripted.operations() == (["pay"] if trouble == "circuit open" else ["price", "pay"])
    assert scripted.received[-1].body == '{"amount":"9.99"}'


def test_a_result_that_is_too_old_is_none(scripted: Scripted) -> None:
    priced_before(scripted, MAX_AGE + timedelta(seconds=1))
    scripted.will("price", BUSY)
    after = drive(start(Priced).id)
    assert (after.status, (after.error or {})["code"]) == (Status.FAILED, "retries_exhausted")
    open_circuit()
    assert held(start(Priced)).status is StepStatus.PENDING


def test_without_a_result_the_step_is_given_up_or_waits_for_the_circuit(scripted: Scripted) -> None:
    scripted.will("price", BUSY)
    assert drive(start(Priced).id).status is Status.FAILED
    open_circuit()
    step = held(start(Priced))
    assert (step.status, (step.error or {})["code"]) == (StepStatus.PENDING, "deferred")
    assert step.attempts == step.forgiven == 1
    assert scripted.operations() == ["price"]


def held(state: SagaState) -> StepState:
    """The first step after a message for it that came while the circuit was open."""
    after = deliver(state, 0).state
    assert after is not None
    return after.steps[0]


def test_a_saga_that_may_not_wait_for_a_circuit_turns_at_once(scripted: Scripted) -> None:
    open_circuit()
    after = drive(start(Hasty).id)
    assert after.status is Status.COMPENSATED
    assert after.error is not None
    assert (after.error["step"], after.error["code"]) == ("ship", "circuit_open")
    assert scripted.operations() == ["book", "unbook"]


def test_rule_5_a_circuit_delays_a_compensation_once_and_never_blocks_it(scripted: Scripted) -> None:
    scripted.will("third", refuses("too_dear"))
    state = start(Chain)
    for position in (0, 1, 2):
        deliver(engine.load(state.id), position)
    open_circuit()
    deliver(engine.load(state.id), 1)
    assert (kinds(state.id)[-1], scripted.operations()[-1]) == ("compensation_deferred", "third")
    hasten(state.id)
    deliver(engine.load(state.id), 1)
    assert (kinds(state.id)[-1], scripted.operations()[-1]) == ("step_compensated", "undo-second")
    assert breaker.inspect()["shop"]["state"] == "open"
    undone = engine.load(state.id).steps[1]
    assert undone.undo_attempts - undone.undo_forgiven == 1
