"""Sagas in every state, brought there by the engine's own verbs with outcomes told, not called."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sagas import engine
from sagas.definition import registry
from sagas.state import Done, Impossible, Outcome, Refused, SagaState, Transient, Unknown

LEASE = timedelta(seconds=40)
BASKET: dict[str, Any] = {
    "store_id": 1,
    "employee_id": 1,
    "customer_id": 123,
    "items": [{"product_id": 456, "quantity": 2, "price": 29.99}],
    "payment_method": "card",
}
SESSION = Done({"employee_id": 1, "session_id": 17, "name": "Ada"})
RESERVED = Done({"reservation_id": 9, "expires_at": "2030-01-01T00:00:00Z"})
CREATED = Done({"transaction_id": 7, "status": "PENDING", "balance": "40.02"})
CONFIRMED = Done({"reservation_id": 9, "movements": 1})
FINAL = Done({"transaction_id": 7, "status": "CONFIRMED"})
SALE = (SESSION, RESERVED, CREATED, CONFIRMED, FINAL)
NO_FUNDS = Refused("insufficient_funds", "the customer has 12.00 EUR and would pay 59.98 EUR")
UNDONE = Done({})


def sale(**options: Any) -> SagaState:
    """A sale that was just accepted."""
    return engine.start("sales_saga", BASKET, actor="client", **options).state


def play(state: SagaState, outcomes: Sequence[Outcome]) -> SagaState:
    """Claim what is due and record the next outcome, until they are told; returns the saga as it is then."""
    definition = registry.get(state.type, state.version)
    for outcome in outcomes:
        position = engine.due_positions(state)[0]
        claimed = engine.claim(state.id, position, state.epoch, LEASE)
        assert claimed is not None, f"step {position} of {state.id} is not due"
        after = engine.record(definition, claimed, position, outcome).state
        assert after is not None
        state = after
    return state


def completed() -> SagaState:
    """A sale that went through."""
    return play(sale(), SALE)


def refused() -> SagaState:
    """A sale refused for lack of funds, and undone."""
    return play(sale(), [SESSION, RESERVED, NO_FUNDS, UNDONE, UNDONE])


def failed() -> SagaState:
    """A sale refused before it had any effect."""
    return play(sale(), [Refused("employee_inactive", "employee 1 is not active")])


def claimed() -> SagaState:
    """A sale whose second step a worker is on."""
    state = play(sale(), [SESSION])
    taken = engine.claim(state.id, 1, state.epoch, LEASE)
    assert taken is not None
    return taken


def backing_off() -> SagaState:
    """A sale whose third step waits for its next attempt, its effect unknown."""
    return play(sale(), [SESSION, RESERVED, Unknown("no answer within 30 s")])


def parked() -> SagaState:
    """A sale that a participant's refusal of the credential has stopped."""
    return play(sale(), [SESSION, Impossible("http_403", "inventory answered 403: credential not accepted")])


def undoing() -> SagaState:
    """A sale that is being undone and waits for the second attempt of a compensation."""
    return play(sale(), [SESSION, RESERVED, NO_FUNDS, Transient("connection refused")])


def undo_refused() -> SagaState:
    """A sale whose compensation was refused."""
    gone = Refused("reservation_gone", "reservation 9 was confirmed by another <b>sale</b>")
    return play(sale(), [SESSION, RESERVED, NO_FUNDS, gone])
