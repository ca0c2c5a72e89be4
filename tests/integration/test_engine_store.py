"""One suite for two stores: PostgreSQL as `engine.py` writes it, and memory as the simulation does."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError

from sagas import engine, interventions
from sagas.definition import SagaDefinition, registry
from sagas.errors import IdempotencyConflict, NotAllowed, SagaNotFound
from sagas.interventions import Wish
from sagas.state import (
    Decision,
    Done,
    Entry,
    Event,
    Impossible,
    LeaseExpired,
    Nothing,
    Outcome,
    Overdue,
    Recorded,
    Refused,
    Rung,
    SagaState,
    StepStatus,
    Transient,
    Unknown,
)
from sagas.testing import AskedBefore, MemoryStore
from sagas.transitions import begin, decide
from tests.definitions import Chain, Group, Pivot, Skipping
from tests.engine import LEASE, kinds, put_back, registered, unchanged

pytestmark = pytest.mark.django_db(transaction=True)

SHAPES = (Chain, Group, Pivot, Skipping)


class Store(Protocol):
    """What both stores can do."""

    def start(self, saga_type: str, key: str | None = None, *, execute: bool = True) -> SagaState: ...
    def load(self, saga_id: UUID) -> SagaState: ...
    def claim(self, saga_id: UUID, position: int, epoch: int, lease: timedelta) -> SagaState | None: ...
    def apply(self, decision: Decision) -> bool: ...
    def take_interrupted(self, limit: int) -> list[UUID]: ...
    def take_overdue(self, limit: int) -> list[UUID]: ...
    def kinds(self, saga_id: UUID) -> list[str]: ...
    def put_back(self, saga_id: UUID, column: str) -> None: ...
    def now(self) -> datetime: ...


class InPostgreSQL:
    """The statements of `engine.py`."""

    def start(self, saga_type: str, key: str | None = None, *, execute: bool = True) -> SagaState:
        return engine.start(saga_type, {}, idempotency_key=key, execute=execute).state

    def load(self, saga_id: UUID) -> SagaState:
        return engine.load(saga_id)

    def claim(self, saga_id: UUID, position: int, epoch: int, lease: timedelta) -> SagaState | None:
        return engine.claim(saga_id, position, epoch, lease)

    def apply(self, decision: Decision) -> bool:
        return engine.apply(decision)

    def take_interrupted(self, limit: int) -> list[UUID]:
        return engine.take_interrupted(limit)

    def take_overdue(self, limit: int) -> list[UUID]:
        return engine.take_overdue(limit)

    def kinds(self, saga_id: UUID) -> list[str]:
        return kinds(saga_id)

    def put_back(self, saga_id: UUID, column: str) -> None:
        put_back(saga_id, column)

    def now(self) -> datetime:
        return engine.clock.now()


@dataclass
class InMemory:
    """The store of the simulation."""

    store: MemoryStore = field(default_factory=MemoryStore)

    def start(self, saga_type: str, key: str | None = None, *, execute: bool = True) -> SagaState:
        definition, saga_id = registry.latest(saga_type), uuid4()
        made = begin(definition, saga_id, {}, "c", self.now(), entry=Entry("saga_started"), execute=execute)
        found = self.store.insert(made, idempotency_key=key, fingerprint=f"{saga_type} {execute}")
        return self.store.load(found)

    def load(self, saga_id: UUID) -> SagaState:
        return self.store.load(saga_id)

    def claim(self, saga_id: UUID, position: int, epoch: int, lease: timedelta) -> SagaState | None:
        return self.store.claim(saga_id, position, epoch, lease)

    def apply(self, decision: Decision) -> bool:
        return self.store.apply(decision)

    def take_interrupted(self, limit: int) -> list[UUID]:
        return self.store.take_interrupted(limit)

    def take_overdue(self, limit: int) -> list[UUID]:
        return self.store.take_overdue(limit)

    def kinds(self, saga_id: UUID) -> list[str]:
        return [entry.kind for entry in self.store.audit(saga_id)]

    def put_back(self, saga_id: UUID, column: str) -> None:
        row, past = self.store.rows[saga_id], self.now() - timedelta(seconds=1)
        if column == "wake_at":
            row.wake_at = past
        elif column == "deadline_at":
            row.state = replace(row.state, deadline_at=past)
        else:
            steps = tuple(replace(s, lease_until=past) if s.in_flight else s for s in row.state.steps)
            row.state = replace(row.state, steps=steps)

    def now(self) -> datetime:
        return self.store.clock.now


@pytest.fixture(autouse=True)
def definitions() -> Iterator[None]:
    """Code for the sagas of these tests, and for nothing else, so that scans take no others."""
    with registered(*SHAPES):
        yield


@pytest.fixture(params=[InPostgreSQL, InMemory])
def store(request: pytest.FixtureRequest) -> Store:
    """Each store in turn."""
    made: Store = request.param()
    return made


# --- Each guard by itself -----------------------------------------------------------------------------


def test_rule_1_a_start_stores_saga_steps_and_audit(store: Store) -> None:
    state = store.load(store.start("chain").id)
    assert [(s.name, s.status, s.due_at is not None) for s in state.steps] == [
        ("first", StepStatus.PENDING, True),
        ("second", StepStatus.PENDING, False),
        ("third", StepStatus.PENDING, False),
        ("last", StepStatus.PENDING, False),
    ]
    assert store.kinds(state.id) == ["saga_started"]


def test_rule_1_the_same_key_starts_one_saga(store: Store) -> None:
    first = store.start("chain", "k")
    assert store.start("chain", "k").id == first.id
    assert store.start("chain", "other").id != first.id
    with pytest.raises(IdempotencyConflict):
        store.start("group", "k")


def test_what_is_not_there_is_not_found(store: Store) -> None:
    with pytest.raises(SagaNotFound):
        store.load(uuid4())
    assert store.claim(uuid4(), 0, 0, LEASE) is None


def test_rule_4_a_due_step_is_claimed_once(store: Store) -> None:
    state = store.start("chain")
    claimed = store.claim(state.id, 0, 0, LEASE)
    assert claimed is not None
    assert likeness(claimed) == likeness(store.load(state.id))
    assert (claimed.steps[0].attempts, claimed.steps[0].in_flight, claimed.rev) == (1, True, 2)
    assert store.claim(state.id, 0, 0, LEASE) is None
    assert store.kinds(state.id) == ["saga_started", "step_claimed"]


@pytest.mark.parametrize(("position", "epoch"), [(1, 0), (0, 1)])
def test_rule_4_nothing_else_can_be_claimed(store: Store, position: int, epoch: int) -> None:
    state = store.start("chain")
    assert store.claim(state.id, position, epoch, LEASE) is None
    assert store.load(state.id) == state


def test_rule_4_neither_a_paused_nor_a_resting_saga_is_claimed(store: Store) -> None:
    paused, parked = store.start("chain"), store.start("chain")
    assert store.apply(unchanged(paused, paused_at=store.now()))
    assert store.apply(unchanged(parked, status="parked"))
    assert store.claim(paused.id, 0, 0, LEASE) is None
    assert store.claim(parked.id, 0, 0, LEASE) is None


def test_rule_4_a_step_due_later_is_not_claimed_now(store: Store) -> None:
    state = store.start("chain")
    later = replace(state.steps[0], due_at=store.now() + timedelta(hours=1))
    made = unchanged(state, steps=(later, *state.steps[1:]))
    assert store.apply(replace(made, changed=(0,)))
    assert store.claim(state.id, 0, 0, LEASE) is None


def test_rule_6_a_decision_takes_hold_at_its_own_revision_only(store: Store) -> None:
    state = store.start("chain")
    decision = replace(unchanged(state, rings=3), audit=(Entry("noted"),))
    assert store.apply(decision)
    assert not store.apply(decision)
    assert store.load(state.id).rings == 3
    assert store.kinds(state.id) == ["saga_started", "noted"]


def test_rule_6_a_claim_makes_decisions_of_before_stale(store: Store) -> None:
    state = store.start("chain")
    store.claim(state.id, 0, 0, LEASE)
    assert not store.apply(unchanged(state, rings=3))


def test_rule_24_a_request_id_is_written_once(store: Store) -> None:
    state = store.start("chain")
    asked = Entry("retry", actor="ann", reason="why not", request_id="r1")
    assert store.apply(replace(unchanged(state), audit=(asked,)))
    after = store.load(state.id)
    with pytest.raises((IntegrityError, AskedBefore)):
        store.apply(replace(unchanged(after, rings=9), audit=(asked,)))
    assert store.load(state.id) == after


def test_rule_19_a_saga_is_taken_once_its_time_has_passed_and_not_again_at_once(store: Store) -> None:
    fresh, old = store.start("chain"), store.start("chain")
    assert store.take_interrupted(10) == []
    store.put_back(old.id, "wake_at")
    assert store.take_interrupted(10) == [old.id]
    assert store.take_interrupted(10) == []
    assert store.load(old.id) == old
    assert store.load(fresh.id) == fresh


def test_rule_19_a_scan_takes_a_bounded_batch_the_oldest_first(store: Store) -> None:
    ids = []
    for _ in range(3):
        ids.append(store.start("chain").id)
        store.put_back(ids[-1], "wake_at")
    assert len(store.take_interrupted(2)) == 2
    assert len(store.take_interrupted(2)) == 1


def test_rule_20_overdue_sagas_on_their_way_forward_are_taken(store: Store) -> None:
    late, waiting = store.start("chain"), store.start("chain", execute=False)
    store.put_back(late.id, "deadline_at")
    assert store.take_overdue(10) == [late.id]
    assert waiting.deadline_at is None


# --- Both stores told the same ------------------------------------------------------------------------


OUTCOMES: tuple[Outcome, ...] = (
    Done({"id": 1}),
    Done({"id": 1}),
    Done({"id": 1}),
    Refused("no", "no"),
    Transient("busy"),
    Unknown("lost"),
    Impossible("http_401", "no"),
)


def likeness(state: SagaState) -> dict[str, Any]:
    """A state without what must differ: its id and the exact times."""
    told: dict[str, Any] = {f.name: getattr(state, f.name) for f in fields(SagaState)}
    told |= {"id": None, "correlation_id": None}
    told["steps"] = [{f.name: getattr(s, f.name) for f in fields(s)} for s in state.steps]
    return dict(_timeless(told))


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: "told" if k == "issued_at" else _timeless(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_timeless(v) for v in value]
    return "a time" if isinstance(value, datetime) else value


def history(store: Store, shape: type[SagaDefinition], seed: int) -> list[Any]:
    """What becomes of one saga that is told random things, drawn from `seed`, in one store."""
    chance, definition = random.Random(seed), registry.latest(shape.type)  # noqa: S311  reproducible
    state = store.start(shape.type)
    told: list[Any] = [likeness(store.load(state.id))]
    claims: list[SagaState] = [state]
    for _ in range(25):
        position = chance.randrange(len(state.steps))
        move = chance.choice(("claim", "claim", "claim", "record", "record", "stale", "scan", "person"))
        known = store.load(state.id)
        if move == "claim":
            epoch = known.epoch - (chance.random() < 0.1)
            ends = timedelta(seconds=-1) if chance.random() < 0.2 else LEASE
            claimed = store.claim(state.id, position, epoch, ends)
            told.append(claimed and likeness(claimed))
            claims += [claimed] if claimed else []
        elif move == "person":
            told.append(_wish(store, definition, known, chance.choice(sorted(interventions.VERBS))))
        else:
            before = known if move != "stale" else chance.choice(claims)
            event = _event(chance, before, position) if move != "scan" else Rung()
            made = decide(definition, before, event, store.now())
            told.append(made.reason if isinstance(made, Nothing) else store.apply(made))
        told.append((move, likeness(store.load(state.id)), store.kinds(state.id)))
    return told


def _event(chance: random.Random, before: SagaState, position: int) -> Event:
    step = before.steps[position]
    if chance.random() < 0.1:
        return chance.choice((LeaseExpired(position), Overdue()))
    attempt, generation = (
        (step.undo_attempts, step.undo_generation) if step.undoing else (step.attempts, step.generation)
    )
    return Recorded(position, step.undoing, generation, attempt, chance.choice(OUTCOMES))


def _wish(store: Store, definition: SagaDefinition, known: SagaState, verb: str) -> Any:
    who = Entry(verb, actor="ann", reason="testing")
    try:
        made = interventions.intervene(definition, known, verb, Wish(step="first"), who, store.now())
    except NotAllowed as error:
        return str(error)
    return made.reason if isinstance(made, Nothing) else store.apply(made)


@pytest.mark.parametrize("shape", SHAPES)
def test_both_stores_tell_the_same_history(shape: type[SagaDefinition]) -> None:
    for seed in range(40):
        assert history(InMemory(), shape, seed) == history(InPostgreSQL(), shape, seed), f"seed {seed}"
