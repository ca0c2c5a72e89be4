"""Broken engines of children and locks, which the search finds (rules 17, 18)."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from sagas import children
from sagas.definition import Child, SagaDefinition, SagaView, step
from sagas.facts import idempotency_key
from sagas.state import Accepted, Done, Outcome, SagaState, Status
from sagas.testing import MemoryStore
from sagas.testing import family as families
from tests.definitions import Bare, Family
from tests.unit.test_mutations import search

Patch = pytest.MonkeyPatch


# The smallest sagas that have what is broken, since a search goes through every pair of failures.


class Solo(Bare, register=False):
    """One step that can be undone, under a lock."""

    type = "solo"
    lock = lambda i: "the one"  # noqa: E731  declared as an author would


class Nest(SagaDefinition, register=False):
    """Starts a child and does no more."""

    type = "nest"

    @step
    def child(self, saga: SagaView) -> Child:
        return Child("bare", {})


class ForgetsToRelease(MemoryStore):
    """A lock outlives its saga."""

    def release(self, state: SagaState) -> None:
        """Keep it."""


class GrantsToAll(MemoryStore):
    """A lock that shuts nobody out."""

    def may_hold(self, key: str, saga_id: UUID) -> bool:
        return True


class GrantsTheLastFirst(MemoryStore):
    """A queue that is a stack."""

    def first_in_line(self, key: str) -> UUID | None:
        return next(reversed(self.queues.get(key, [])), None)


class ShutsOutTheFamily(MemoryStore):
    """A lock that is not re-entrant."""

    def root_holds(self, parent_id: UUID | None, key: str) -> bool:
        return False


class ForgetsToTakeAgain(MemoryStore):
    """Undoes a finished saga, or runs it again, without its lock."""

    def seize(self, state: SagaState) -> None:
        """Do without."""


@pytest.mark.parametrize(
    ("store", "definition", "broken"),
    [
        (ForgetsToRelease, Solo, "outlives its saga"),
        (GrantsToAll, Solo, "two sagas work under the lock"),
        (GrantsTheLastFirst, Solo, "granted past those who wait"),
        (ShutsOutTheFamily, Family, "of its own family"),
        (ForgetsToTakeAgain, Solo, "two sagas work under the lock"),
    ],
)
def test_a_store_with_a_broken_lock_is_found(
    store: type[MemoryStore], definition: type[SagaDefinition], broken: str
) -> None:
    rivals = ("second", "third") if store is GrantsTheLastFirst else ("rival",)
    found = search(definition, store=store, beside={name: (definition(), {}) for name in rivals})
    assert found.broken.startswith("rule 18")
    assert broken in found.broken


def two_children(stage: Any, state: SagaState, position: int) -> Any:
    """Starts another child for every attempt."""
    attempts, key = (
        state.steps[position].attempts,
        idempotency_key(state.id, state.steps[position], backward=False),
    )
    if attempts > 1 and stage.store.child_of(key) is not None:
        key = f"{key}:{attempts}"
    return stage.scene.begin(Bare(), {}, label="child", parent=stage, position=position, key=key)


def undo_of_the_parent_alone(stage: Any, state: SagaState, position: int) -> Any:
    """Takes a child for a step without effect."""
    yield None
    return Done({})


def undo_of_what_is_there(stage: Any, state: SagaState, position: int) -> Any:
    """Leaves nothing that a worker which is late would find."""
    key = idempotency_key(state.id, state.steps[position], backward=False)
    if stage.store.child_of(key) is None:
        return Done({})
    return (yield from UNDO_CHILD(stage, state, position))


UNDO_CHILD = families.undo_child


@pytest.mark.parametrize(
    ("module", "name", "mutant", "broken"),
    [
        ("sagas.testing.family", "_child", two_children, "2 children of child live"),
        ("sagas.testing.workers", "undo_child", undo_of_the_parent_alone, "an effect of child stands"),
        ("sagas.testing.workers", "undo_child", undo_of_what_is_there, "an effect of child stands"),
    ],
)
def test_a_broken_family_is_found(
    module: str, name: str, mutant: object, broken: str, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(f"{module}.{name}", mutant)
    assert broken in search(Nest, children=[Bare]).broken


def any_end(child: SagaState) -> Outcome | None:
    """Takes a child that has begun for one that is done."""
    return Done({})


def parked_as_undone(definition: SagaDefinition, child: SagaState) -> Outcome | None:
    """Goes on though the child could not be undone."""
    return Done({}) if child.status is Status.COMPENSATION_FAILED else UNDO_OUTCOME(definition, child)


def parked_as_on_its_way(definition: SagaDefinition, child: SagaState) -> Outcome | None:
    """Asks for ever for a child whose undoing waits for a person."""
    return (
        Accepted("child") if child.status is Status.COMPENSATION_FAILED else UNDO_OUTCOME(definition, child)
    )


UNDO_OUTCOME: Callable[[SagaDefinition, SagaState], Outcome | None] = children.undo_outcome


@pytest.mark.parametrize(
    ("name", "mutant", "broken"),
    [
        ("outcome", any_end, "child has 0 effects"),
        ("undo_outcome", parked_as_undone, "an effect of child stands"),
        ("undo_outcome", parked_as_on_its_way, "does not come to rest"),
    ],
)
def test_a_parent_that_misreads_its_child_is_found(
    name: str, mutant: object, broken: str, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(children, name, mutant)
    assert broken in search(Nest, children=[Bare]).broken
