"""Rule 2: a saga keeps its steps; a definition that has others by now may not touch it, and it says so."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sagas import engine, recovery
from sagas.admin.verbs import OFFERS, foresee
from sagas.definition import Call, SagaDefinition, SagaView, registry, step
from sagas.errors import NotAllowed
from sagas.interventions import Wish
from sagas.state import DEFINITION_CHANGED, Impossible, SagaState, Status
from tests.definitions import Chain, InlineChain, Waiting, shop
from tests.engine import claimed, deliver, drive, put_back, registered
from tests.scripted import Scripted, refuses

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("bells")]


class Shorter(SagaDefinition, register=False):
    """Has lost steps."""

    type = "shorter"

    @step
    def first(self, saga: SagaView) -> Call:
        return shop.post("first")


class Moved(SagaDefinition, register=False):
    """Has the same steps in another order, with other inverses."""

    type = "moved"

    @step
    def second(self, saga: SagaView) -> Call:
        return shop.post("second")

    @second.compensation
    def undo_second(self, saga: SagaView) -> Call:
        return shop.post("undo-second")

    @step
    def first(self, saga: SagaView) -> Call:
        return shop.post("first")

    @first.compensation
    def undo_first(self, saga: SagaView) -> Call:
        return shop.post("undo-first")

    @step
    def third(self, saga: SagaView) -> Call:
        return shop.post("third")

    @step
    def last(self, saga: SagaView) -> Call:
        return shop.post("last")

    @step
    def more(self, saga: SagaView) -> Call:
        return shop.post("more")


@pytest.fixture(autouse=True)
def definitions() -> Iterator[None]:
    """Code for the sagas of these tests."""
    with registered(Chain, InlineChain, Waiting):
        yield


@contextmanager
def changed(saga_type: str, definition: type[SagaDefinition]) -> Iterator[None]:
    """The code of a type is another one, under the same version."""
    own = registry.by_key[saga_type, 1]
    registry.by_key[saga_type, 1] = definition()
    try:
        yield
    finally:
        registry.by_key[saga_type, 1] = own


def parked(state: SagaState, status: Status) -> bool:
    """Whether the saga waits for a person because of its definition, with nothing in flight."""
    after = engine.load(state.id)
    flying = [step.name for step in after.steps if step.in_flight]
    error: dict[str, Any] = after.error or {}
    if status is Status.COMPENSATION_FAILED:
        error = next(step.undo_error for step in after.steps if step.undo_error) or {}
    return (after.status, error["code"], flying) == (status, DEFINITION_CHANGED, [])


BOTH = pytest.mark.parametrize("definition", [Shorter, Moved])


@BOTH
@pytest.mark.parametrize("saga_type", ["chain", "inline_chain"])
def test_rule_2_a_step_of_a_changed_definition_is_not_done(
    saga_type: str, definition: type[SagaDefinition], scripted: Scripted
) -> None:
    state = engine.start(saga_type, {}).state
    with changed(saga_type, definition):
        deliver(state, 0)
        assert parked(state, Status.PARKED)
        assert scripted.operations() == []
        for verb in ("resume", "compensate", "skip"):
            with pytest.raises(NotAllowed, match="bring them back, or give the changed definition a version"):
                engine.intervene(state.id, verb, actor="ann", reason="try", wish=Wish(step="first"))
    engine.intervene(state.id, "resume", actor="ann", reason="mended")
    assert drive(state.id).status is Status.COMPLETED


@BOTH
def test_rule_2_an_undo_of_a_changed_definition_is_not_done(
    definition: type[SagaDefinition], scripted: Scripted
) -> None:
    scripted.will("third", refuses("no"))
    state = engine.start("chain", {}).state
    for position in range(3):
        deliver(engine.load(state.id), position)
    before = scripted.operations()
    with changed("chain", definition):
        deliver(engine.load(state.id), 1)
        assert parked(state, Status.COMPENSATION_FAILED)
        assert scripted.operations() == before
    engine.intervene(state.id, "resume", actor="ann", reason="mended")
    assert drive(state.id).status is Status.COMPENSATED


@BOTH
def test_rule_2_a_lost_workers_step_of_a_changed_definition_is_left_to_a_person(
    definition: type[SagaDefinition], scripted: Scripted
) -> None:
    state = claimed(engine.start("chain", {}).state)
    put_back(state.id, "lease_until")
    with changed("chain", definition):
        recovery.resume(state.id)
        assert engine.load(state.id).status is Status.PARKED
    engine.intervene(state.id, "resume", actor="ann", reason="mended")
    recovery.resume(state.id)
    assert drive(state.id).status is Status.COMPLETED


def test_rule_2_what_a_saga_of_a_changed_definition_waits_for_is_not_taken(scripted: Scripted) -> None:
    state = drive(engine.start("waiting", {}).state.id)
    assert state.status is Status.WAITING
    with changed("waiting", Shorter), pytest.raises(NotAllowed, match="no longer has the steps"):
        engine.signal(state.id, "word", {}, signal_id="s1")
    assert engine.load(state.id) == state


def test_rule_2_a_saga_of_a_changed_definition_can_be_resolved(scripted: Scripted) -> None:
    state = engine.start("chain", {}).state
    with changed("chain", Moved):
        deliver(state, 0)
        engine.intervene(state.id, "resolve", actor="ann", reason="by hand", wish=Wish(outcome="failed"))
    assert engine.load(state.id).status is Status.FAILED


@BOTH
def test_rule_2_a_saga_that_turns_under_a_worker_with_other_steps_is_left_alone(
    definition: type[SagaDefinition], scripted: Scripted
) -> None:
    state = engine.start("chain", {}).state
    deliver(state, 0)
    flying = claimed(engine.load(state.id), 1)
    engine.compensate(state.id, actor="ann", reason="no more")
    before = scripted.operations()
    with changed("chain", definition):
        engine.record(definition(), flying, 1, Impossible(DEFINITION_CHANGED, ""))
    after = engine.load(state.id)
    assert after.status is Status.COMPENSATION_FAILED
    assert [step.undo_request for step in after.steps] == [None] * 4
    assert scripted.operations() == before
    engine.intervene(state.id, "resume", actor="ann", reason="mended")
    assert drive(state.id).status is Status.COMPENSATED


def test_the_admin_offers_to_resolve_a_saga_of_a_changed_definition_and_nothing_else(
    scripted: Scripted,
) -> None:
    state = engine.start("chain", {}).state
    with changed("chain", Moved):
        deliver(state, 0)
        known, now = engine.load(state.id), engine.clock.now()
        seen = {name: foresee(offer, known, "ann", now) for name, offer in OFFERS.items()}
    assert [name for name, foreseen in seen.items() if foreseen.allowed] == ["resolve"]
    assert "bring them back" in seen["compensate"].refusal
