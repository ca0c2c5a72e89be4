"""Which messages are sent for what is due, which are chained behind them, and who else is told of an end."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from celery import Signature

from sagas import dispatch
from sagas.claims import RUNG_WITHIN
from sagas.definition import SagaDefinition
from sagas.dispatch import COMPENSATE_TASK, STEP_TASK, UNLOCK_TASK, WAKE_TASK, chain_from
from sagas.state import Effect, SagaState, Status, with_step
from tests.deciding import NO, NOW, OK, recorded, started, taken, told
from tests.definitions import Chain, Group, InlineChain, InlineGroup
from tests.engine import registered

CHAIN, GROUP = Chain(), Group()
PARENT = UUID(int=9)
Messages = list[tuple[str, tuple[Any, ...]]]
Sent = list[tuple[str, tuple[Any, ...], float]]


def messages(signature: Signature) -> Messages:
    """Task and arguments of a message and of those chained behind it; none takes another's result."""
    each: Sequence[Signature] = getattr(signature, "tasks", None) or [signature]
    assert len(each) == 1 or all(one.immutable for one in each)
    return [(str(one.task), tuple(one.args)) for one in each]


def expected(task: str, state: SagaState, *positions: int) -> Messages:
    return [(task, (str(state.id), at, state.epoch, state.type, state.version)) for at in positions]


# --- Chains -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("definition", "position", "run"),
    [
        (CHAIN, 0, [0, 1, 2, 3]),
        (CHAIN, 2, [2, 3]),
        (CHAIN, 3, [3]),
        (GROUP, 0, [0]),  # the members of the group are rung for one by one
        (GROUP, 1, [1]),  # only the join knows what comes behind a member
        (GROUP, 2, [2]),
        (GROUP, 3, [3]),
        (InlineChain(), 0, [0]),
        (InlineGroup(), 1, [1]),
    ],
)
def test_forward_what_follows_is_chained_up_to_a_group(
    definition: SagaDefinition, position: int, run: list[int]
) -> None:
    state = started(definition)
    assert messages(chain_from(definition, state, position)) == expected(STEP_TASK, state, *run)


def turned(definition: SagaDefinition) -> SagaState:
    """A saga with a group whose right member was done before its left, refused at the join."""
    state = taken(told(definition, OK), 1, 2)
    for member in (2, 1):
        state = recorded(definition, state, member, OK)
    return told(definition, NO, state=state)


def test_backward_the_chain_follows_the_reverse_order_of_doing() -> None:
    state = turned(GROUP)
    assert state.status is Status.COMPENSATING
    assert messages(chain_from(GROUP, state, 1)) == expected(COMPENSATE_TASK, state, 1, 2, 0)
    assert messages(chain_from(GROUP, state, 2)) == expected(COMPENSATE_TASK, state, 2, 0)
    undone = replace(state.steps[2], effect=Effect.UNDONE)
    state = replace(state, steps=with_step(state.steps, undone))
    assert messages(chain_from(GROUP, state, 1)) == expected(COMPENSATE_TASK, state, 1, 0)


def test_backward_inline_one_message_is_sent() -> None:
    definition = InlineGroup()
    state = turned(definition)
    assert messages(chain_from(definition, state, 1)) == expected(COMPENSATE_TASK, state, 1)


def test_backward_what_was_not_done_is_not_chained() -> None:
    state = told(CHAIN, OK, OK, NO)
    assert messages(chain_from(CHAIN, state, 1)) == expected(COMPENSATE_TASK, state, 1, 0)


# --- Ringing ------------------------------------------------------------------------------------------


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """The first message of all that is sent, with its countdown, instead of sending."""
    sent: Sent = []

    def send(signature: Signature, countdown: float = 0.0) -> None:
        sent.append((*messages(signature)[0], countdown))

    monkeypatch.setattr(Signature, "apply_async", send)
    monkeypatch.setattr(type(chain_from(CHAIN, started(CHAIN), 0)), "apply_async", send)
    return sent


def test_each_due_step_has_a_message_of_its_own_that_waits_as_long_as_it_must(
    sent: Sent,
) -> None:
    state = told(GROUP, OK)
    soon = replace(state.steps[2], due_at=NOW + timedelta(seconds=4))
    state = replace(state, steps=(*state.steps[:2], soon, *state.steps[3:]))
    with registered(Group):
        dispatch.ring(state, [1, 2], NOW)
        assert sent == [
            (*expected(STEP_TASK, state, 1)[0], 0.0),
            (*expected(STEP_TASK, state, 2)[0], 4.0),
        ]
        sent.clear()
        dispatch.ring(state, [2], NOW + timedelta(seconds=3) - RUNG_WITHIN)
    assert sent == []


ENDED = told(CHAIN, OK, OK, OK, OK)
REFUSED = told(CHAIN, NO)


@pytest.mark.parametrize("ended", [ENDED, REFUSED], ids=lambda state: state.status)
def test_rule_17_the_end_of_a_child_rings_its_parent(sent: Sent, ended: SagaState) -> None:
    dispatch.ring(replace(ended, parent_id=PARENT), [], NOW)
    assert sent == [(WAKE_TASK, (str(PARENT),), 0.0)]


@pytest.mark.parametrize("ended", [ENDED, REFUSED], ids=lambda state: state.status)
def test_rule_17_the_end_of_a_locks_holder_rings_its_queue(sent: Sent, ended: SagaState) -> None:
    dispatch.ring(replace(ended, lock_key="order:7"), [], NOW)
    assert sent == [(UNLOCK_TASK, ("order:7",), 0.0)]


def test_nobody_is_told_of_a_saga_that_goes_on_or_stands_alone(
    sent: Sent,
) -> None:
    going = told(CHAIN, OK)
    dispatch.ring(replace(going, parent_id=PARENT, lock_key="order:7"), [], NOW)
    dispatch.ring(ENDED, [], NOW)
    assert sent == []
