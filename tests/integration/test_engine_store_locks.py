"""Locks and families in both stores: as `engine.py` writes them, and as the simulation does."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

import pytest

from sagas import engine, interventions
from sagas.definition import registry
from sagas.errors import LockHeld, NotAllowed
from sagas.interventions import Wish
from sagas.models import SagaLock
from sagas.state import (
    Decision,
    Done,
    Entry,
    Nothing,
    Recorded,
    Refused,
    SagaState,
    Signalled,
    Status,
)
from sagas.testing import MemoryStore
from sagas.testing.stage import Scene, Stage
from sagas.transitions import decide
from tests.definitions import Family, Locked, Refusing
from tests.engine import LEASE, registered
from tests.integration.test_engine_store import likeness

pytestmark = pytest.mark.django_db(transaction=True)

KEY = "order:7"
SHAPES = (Family, Locked, Refusing)


class Store(Protocol):
    """What both stores can do with locks and families."""

    def start(self, saga_type: str, parent: UUID | None = None, key: str | None = None) -> UUID: ...
    def load(self, saga_id: UUID) -> SagaState: ...
    def claim(self, state: SagaState, position: int) -> SagaState | None: ...
    def apply(self, decision: Decision) -> bool: ...
    def look(self, saga_id: UUID) -> None: ...
    def holder(self) -> UUID | None: ...
    def now(self) -> Any: ...


class InPostgreSQL:
    """The statements of `engine.py`."""

    def start(self, saga_type: str, parent: UUID | None = None, key: str | None = None) -> UUID:
        of = engine.load(parent) if parent is not None else None
        return engine.start(saga_type, {}, parent=of, idempotency_key=key).state.id

    def load(self, saga_id: UUID) -> SagaState:
        return engine.load(saga_id)

    def claim(self, state: SagaState, position: int) -> SagaState | None:
        return engine.claim(state.id, position, state.epoch, LEASE)

    def apply(self, decision: Decision) -> bool:
        return engine.apply(decision)

    def look(self, saga_id: UUID) -> None:
        state = engine.load(saga_id)
        if state.awaits_lock:
            engine.take_lock(state)

    def holder(self) -> UUID | None:
        return SagaLock.objects.filter(key=KEY, held=True).values_list("saga_id", flat=True).first()

    def now(self) -> Any:
        return engine.clock.now()


@dataclass
class InMemory:
    """The store of the simulation, by way of its scene."""

    scene: Scene = field(default_factory=lambda: Scene(Locked(), {}, store=MemoryStore()))

    def start(self, saga_type: str, parent: UUID | None = None, key: str | None = None) -> UUID:
        of = self.scene.stages[parent] if parent is not None else None
        stage = self.scene.begin(registry.latest(saga_type), {}, parent=of, key=key)
        self.look(stage.saga_id)
        return stage.saga_id

    def load(self, saga_id: UUID) -> SagaState:
        return self.scene.store.load(saga_id)

    def claim(self, state: SagaState, position: int) -> SagaState | None:
        return self.scene.store.claim(state.id, position, state.epoch, LEASE)

    def apply(self, decision: Decision) -> bool:
        return self.scene.store.apply(decision)

    def look(self, saga_id: UUID) -> None:
        stage: Stage = self.scene.stages[saga_id]
        if stage.state.awaits_lock:
            for _ in stage.take_lock("a look"):
                """Nobody comes in between."""

    def holder(self) -> UUID | None:
        return self.scene.store.holder(KEY)

    def now(self) -> Any:
        return self.scene.now


@pytest.fixture(autouse=True)
def definitions() -> Iterator[None]:
    """Code for the sagas of these tests."""
    with registered(*SHAPES):
        yield


@pytest.fixture(params=[InPostgreSQL, InMemory])
def store(request: pytest.FixtureRequest) -> Store:
    """Each store in turn."""
    made: Store = request.param()
    return made


def record(store: Store, saga_id: UUID, outcome: Done | Refused) -> None:
    """Claim the step that is due, and record what became of it."""
    state = store.load(saga_id)
    position = engine.due_positions(state)[0]
    claimed = store.claim(state, position)
    assert claimed is not None
    made = _recorded(store, claimed, position, outcome)
    assert isinstance(made, Decision)
    assert store.apply(made)


def _recorded(store: Store, state: SagaState, position: int, outcome: Done | Refused) -> Decision | Nothing:
    step = state.steps[position]
    attempt, generation = (
        (step.undo_attempts, step.undo_generation) if step.undoing else (step.attempts, step.generation)
    )
    event = Recorded(position, step.undoing, generation, attempt, outcome)
    return decide(registry.get(state.type, state.version), state, event, store.now())


def wished(store: Store, saga_id: UUID, verb: str, step: str = "change") -> Decision | Nothing:
    """What a person wants of a saga, decided and not applied."""
    state = store.load(saga_id)
    who = Entry(verb, actor="ann", reason="testing")
    definition = registry.get(state.type, state.version)
    return interventions.intervene(definition, state, verb, Wish(step=step), who, store.now())


def test_rule_18_the_lock_goes_from_one_to_the_next_in_line(store: Store) -> None:
    first, second, third = (store.start("locked") for _ in range(3))
    assert [store.load(i).awaits_lock for i in (first, second, third)] == [False, True, True]
    store.look(second)
    assert store.holder() == first
    record(store, first, Refused("no", "no"))
    assert (store.load(first).status, store.holder()) == (Status.FAILED, None)
    store.look(third)
    assert store.load(third).awaits_lock
    store.look(second)
    assert store.holder() == second


def test_rule_18_a_lock_is_kept_until_all_is_undone(store: Store) -> None:
    saga = store.start("locked")
    record(store, saga, Done({}))
    record(store, saga, Refused("no", "no"))
    assert (store.load(saga).status, store.holder()) == (Status.COMPENSATING, saga)
    record(store, saga, Done({}))
    assert (store.load(saga).status, store.holder()) == (Status.COMPENSATED, None)


def test_rule_18_a_saga_that_reopens_takes_its_lock_again_or_stays_as_it_is(store: Store) -> None:
    first, second = store.start("locked"), store.start("locked")
    record(store, first, Refused("no", "no"))
    store.look(second)
    again, before = wished(store, first, "retry"), store.load(first)
    assert isinstance(again, Decision)
    with pytest.raises(LockHeld, match=str(second)):
        store.apply(again)
    assert store.load(first) == before
    record(store, second, Refused("no", "no"))
    assert store.apply(again)
    assert store.holder() == first
    third = store.start("locked")
    assert store.load(third).awaits_lock


def test_rule_18_a_decision_that_comes_too_late_takes_no_lock(store: Store) -> None:
    saga = store.start("locked")
    record(store, saga, Refused("no", "no"))
    once, twice = wished(store, saga, "retry"), wished(store, saga, "retry")
    assert isinstance(once, Decision)
    assert isinstance(twice, Decision)
    assert store.apply(once)
    record(store, saga, Refused("no", "no"))
    assert not store.apply(twice)
    assert store.holder() is None


def test_rule_18_a_lock_refuses_where_that_is_declared(store: Store) -> None:
    first = store.start("refusing")
    with pytest.raises(LockHeld, match=str(first)):
        store.start("refusing")
    record(store, first, Refused("no", "no"))
    assert store.holder() is None
    assert not store.load(store.start("refusing")).awaits_lock


def test_rule_18_a_child_shares_the_lock_of_its_family_and_is_started_once(store: Store) -> None:
    parent, stranger = store.start("family"), store.start("locked")
    child = store.start("locked", parent, "the key")
    assert store.start("locked", parent, "the key") == child
    state = store.load(child)
    assert (state.parent_id, state.lock_key, state.awaits_lock) == (parent, None, False)
    assert store.holder() == parent
    assert store.load(stranger).awaits_lock


def history(store: Store, seed: int) -> list[Any]:
    """What becomes of sagas that want one lock and are told random things, drawn from `seed`."""
    chance = random.Random(seed)  # noqa: S311  reproducible
    sagas = [store.start("locked")]
    told: list[Any] = []
    for number in range(40):
        saga = chance.choice(sagas)
        move = chance.choice(("start", "look", "look", "work", "work", "work", "person", "signal"))
        if move == "start":
            said: Any = _start(store, sagas, chance)
        elif move == "look":
            said = None
            store.look(saga)
        elif move == "work":
            said = _work(store, saga, chance.choice((Done({}), Done({}), Refused("no", "no"))))
        elif move == "person":
            said = _person(store, saga, chance.choice(sorted(interventions.VERBS)))
        else:
            state, event = store.load(saga), Signalled(f"s{number}", "go", None)
            said = _applied(store, decide(registry.get(state.type, 1), state, event, store.now()))
        holder = store.holder()
        place = sagas.index(holder) if holder in sagas else None
        told.append((move, said, place, [likeness(store.load(i)) | {"parent_id": None} for i in sagas]))
    return told


def _start(store: Store, sagas: list[UUID], chance: random.Random) -> str:
    if len(sagas) >= 4:
        return "enough"
    parents = {store.load(saga).parent_id for saga in sagas}
    parent = chance.choice([None, None, *(saga for saga in sagas if saga not in parents)])
    try:
        sagas.append(store.start(chance.choice(("locked", "locked", "refusing")), parent))
    except LockHeld:
        return "refused"
    return "started"


def _work(store: Store, saga: UUID, outcome: Done | Refused) -> Any:
    state = store.load(saga)
    due = engine.due_positions(state)
    claimed = store.claim(state, due[0]) if due else None
    return _applied(store, _recorded(store, claimed, due[0], outcome)) if claimed is not None else "idle"


def _person(store: Store, saga: UUID, verb: str) -> Any:
    try:
        return _applied(store, wished(store, saga, verb))
    except NotAllowed as error:
        return str(error)


def _applied(store: Store, made: Decision | Nothing) -> Any:
    try:
        return made.reason if isinstance(made, Nothing) else store.apply(made)
    except LockHeld:
        return "locked"


def test_both_stores_tell_the_same_history_of_sagas_that_want_one_lock() -> None:
    for seed in range(15):
        SagaLock.objects.all().delete()
        assert history(InMemory(), seed) == history(InPostgreSQL(), seed), f"seed {seed}"


def test_the_random_histories_see_every_answer_of_a_lock() -> None:
    told = [entry for seed in range(40) for entry in history(InMemory(), seed)]
    said = {str(entry[1]) for entry in told}
    assert {"locked", "refused", "started"} <= said
    assert any(state["status"] is Status.WAITING for entry in told for state in entry[3])
