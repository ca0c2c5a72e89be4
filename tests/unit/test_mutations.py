"""The crash matrix finds engines, stores, participants and definitions that are broken on purpose."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from sagas import draft as drafts
from sagas import interventions, transitions
from sagas.claims import claimable
from sagas.definition import Call, SagaDefinition, SagaView, Wait, approval, step
from sagas.draft import Draft
from sagas.state import (
    ACTIVE,
    Decision,
    Done,
    Effect,
    Event,
    LeaseExpired,
    Nothing,
    Outcome,
    Recorded,
    Refused,
    Rung,
    SagaState,
    Status,
    StepState,
    StepStatus,
    Transient,
    Unknown,
)
from sagas.testing import (
    BrokenInvariant,
    Choices,
    MemoryStore,
    Participants,
    World,
    crash_matrix,
    random_histories,
    world_of,
)
from sagas.testing.invariants import PASSED
from sagas.testing.participants import Request
from sagas.transitions import decide
from tests.definitions import CHILDREN, Chain, Group, Pivot, Signed, Skipping, Waiting, shop

Patch = pytest.MonkeyPatch


def search(definition: type[SagaDefinition], **parts: Any) -> BrokenInvariant:
    """The history that the matrix finds for a broken world; fails if it finds none."""

    def build(choices: Choices) -> World:
        made = {name: part() if name == "store" else part for name, part in parts.items()}
        return world_of(definition(), **{"children": CHILDREN, **made})(choices)

    with pytest.raises(BrokenInvariant) as caught:
        crash_matrix(definition, depth=2, limit=20_000, build=build)
    return caught.value


# --- Broken stores ------------------------------------------------------------------------------------


class ForgetsRevision(MemoryStore):
    """Applies a decision whatever happened since it was made, as an unguarded UPDATE would."""

    def may_apply(self, state: SagaState, decision: Decision) -> bool:
        return True


class ForgetsEpoch(MemoryStore):
    """Lets an old message claim."""

    def may_claim(self, state: SagaState, position: int, epoch: int) -> bool:
        return claimable(state, position, state.epoch, self.clock.now)


class ForgetsPause(MemoryStore):
    """Claims steps of a paused saga."""

    def may_claim(self, state: SagaState, position: int, epoch: int) -> bool:
        return claimable(replace(state, paused_at=None), position, epoch, self.clock.now)


class ForgetsDueTime(MemoryStore):
    """Claims a step because its message is there, due or not."""

    def may_claim(self, state: SagaState, position: int, epoch: int) -> bool:
        return state.epoch == epoch and state.status in ACTIVE


class ForgetsWakeUp(MemoryStore):
    """Relies on messages alone."""

    def wake(self, state: SagaState) -> datetime | None:
        return None


@pytest.mark.parametrize(
    ("store", "definition", "rule"),
    [
        (ForgetsRevision, Chain, "rule 6"),
        (ForgetsRevision, Group, "rule 6"),
        (ForgetsEpoch, Chain, "rule 4"),
        (ForgetsPause, Chain, "rule 4"),
        (ForgetsDueTime, Chain, "rule 4"),
        (ForgetsWakeUp, Chain, "rule 7"),
    ],
)
def test_a_broken_store_is_found(
    store: type[MemoryStore], definition: type[SagaDefinition], rule: str
) -> None:
    assert search(definition, store=store).broken.startswith(rule)


# --- Broken decisions -----------------------------------------------------------------------------------


def new_key_after_unknown(
    definition: SagaDefinition, state: SagaState, event: Event, now: datetime
) -> Decision | Nothing:
    """Takes another idempotency key for the repetition of a step whose outcome is unknown."""
    decision = decide(definition, state, event, now)
    if isinstance(decision, Nothing) or not isinstance(event, Recorded):
        return decision
    steps = tuple(
        replace(step, generation=step.generation + 1)
        if step.status is StepStatus.PENDING and step.effect is Effect.UNKNOWN
        else step
        for step in decision.state.steps
    )
    return replace(decision, state=replace(decision.state, steps=steps))


def hearing(translate: Callable[[Event], Event]) -> Callable[..., Decision | Nothing]:
    """An engine that takes one event for another."""

    def decider(
        definition: SagaDefinition, state: SagaState, event: Event, now: datetime
    ) -> Decision | Nothing:
        return decide(definition, state, translate(event), now)

    return decider


def unknown_as(outcome: Outcome) -> Callable[[Event], Event]:
    """Takes an unknown outcome for another one."""

    def translate(event: Event) -> Event:
        if isinstance(event, Recorded) and isinstance(event.outcome, Unknown):
            return replace(event, outcome=outcome)
        return event

    return translate


def lost_as_refused(event: Event) -> Event:
    """Takes the step of a lost worker for not done when the participant cannot tell."""
    if isinstance(event, LeaseExpired) and event.learnt is None:
        return replace(event, learnt=Refused("lost", "its worker was lost"))
    return event


def epoch_by_scan(
    definition: SagaDefinition, state: SagaState, event: Event, now: datetime
) -> Decision | Nothing:
    """Makes the messages of a backlog stale by rescuing it."""
    decision = decide(definition, state, event, now)
    if isinstance(decision, Decision) and isinstance(event, Rung):
        return replace(decision, state=replace(decision.state, epoch=state.epoch + 1))
    return decision


@pytest.mark.parametrize(
    ("decider", "broken"),
    [
        pytest.param(new_key_after_unknown, "rule 11", id="new-key-after-unknown"),
        pytest.param(hearing(unknown_as(Transient("lost"))), "an effect of", id="unknown-as-transient"),
        pytest.param(hearing(unknown_as(Refused("lost", ""))), "an effect of", id="unknown-as-refused"),
        pytest.param(hearing(unknown_as(Done({"id": 1}))), "0 effects", id="unknown-as-done"),
        pytest.param(hearing(lost_as_refused), "an effect of", id="lost-worker-as-refused"),
        pytest.param(epoch_by_scan, "rule 3", id="epoch-by-scan"),
    ],
)
def test_a_broken_decision_is_found(decider: Callable[..., Decision | Nothing], broken: str) -> None:
    assert broken in search(Chain, decider=decider).broken


def forward_undo(self: Draft) -> list[StepState]:
    return UNDO_SET(self)[::-1]


def undo_of_known_only(self: Draft) -> list[StepState]:
    return [step for step in UNDO_SET(self) if step.effect is Effect.DONE]


def undo_of_kept_only(self: Draft) -> list[StepState]:
    return [step for step in UNDO_SET(self) if step.status is not StepStatus.SKIPPED]


def undo_at_once(self: Draft) -> None:
    """Does not wait for what is in flight."""
    state = self.state
    landed = tuple(replace(step, lease_until=None) for step in state.steps)
    self.state = replace(state, steps=landed)
    UNDO_NEXT(self)
    leases = {step.position: step.lease_until for step in state.steps}
    steps = tuple(replace(step, lease_until=leases[step.position]) for step in self.state.steps)
    self.state = replace(self.state, steps=steps)


def turn_alone(self: Draft, error: dict[str, Any]) -> None:
    """Leaves the siblings as they are."""
    self.update(status=Status.COMPENSATING, epoch=self.state.epoch + 1, error=error)
    self.note("saga_turned", **error)
    self.undo_next()


def run_again_with_old_keys(self: Draft, first: int = 0) -> None:
    RUN_AGAIN(self, first)
    for old in self.before.steps[first:]:
        self.update_step(old.position, generation=old.generation)


class Asked(SagaDefinition, register=False):
    """Asks, then calls."""

    type = "asked"

    @step
    def ask(self, saga: SagaView) -> Wait:
        return approval()

    @step
    def call(self, saga: SagaView) -> Call:
        return shop.post("call")


def forget_no_mail(self: Draft, steps: Iterable[StepState]) -> None:
    """Lets an old signal serve a new generation."""


def read_no_mail(self: Draft) -> None:
    """Lets what came while a saga was parked lie."""


def quiet_note(self: Draft, kind: str, position: int | None = None, /, **detail: Any) -> None:
    """Parks without an alert."""
    NOTE(self, "note" if kind in ("saga_parked", "compensation_failed") else kind, position, **detail)


def join_by_one(self: Draft, stage: int) -> bool:
    """Lets a join begin when one member of the group is done."""
    before = [
        s for s, item in zip(self.state.steps, self.definition.steps, strict=True) if item.stage == stage - 1
    ]
    return STAGE_OPEN(self, stage - 1) and (not before or any(s.status in PASSED for s in before))


def join_from_the_past(self: Draft, stage: int) -> bool:
    """Reads the siblings as they were before the lock was waited for: each member finds the other missing."""
    group = [item.position for item in self.definition.steps if item.stage == stage - 1 and item.group]
    now = {step.position: step for step in self.state.steps}
    stale = [now[p] for p in group if p not in self.changed or len(self.changed) > 1]
    return STAGE_OPEN(self, stage) and (not group or len(stale) == len(group))


UNDO_SET, UNDO_NEXT, RUN_AGAIN, NOTE = Draft.undo_set, Draft.undo_next, Draft.run_again, Draft.note
STAGE_OPEN = Draft._stage_open


@pytest.mark.parametrize(
    ("method", "mutant", "definition", "broken"),
    [
        ("undo_set", forward_undo, Chain, "rule 13"),
        ("undo_set", undo_of_known_only, Chain, "rule 10"),
        ("undo_set", undo_of_kept_only, Skipping, "rule 10"),
        ("undo_next", undo_at_once, Group, "rule 1"),
        ("turn", turn_alone, Group, "rule 1"),
        ("_stage_open", join_by_one, Group, "KeyError"),
        ("_stage_open", join_from_the_past, Group, "silently"),
        ("run_again", run_again_with_old_keys, Chain, "rule 6"),
        ("note", quiet_note, Chain, "without an alert"),
        ("forget_mail", forget_no_mail, Asked, "rule 17"),
        ("read_all_mail", read_no_mail, Waiting, "rule 17"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_broken_way_is_found(
    method: str, mutant: object, definition: type[SagaDefinition], broken: str, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(Draft, method, mutant)
    assert broken in search(definition).broken


def test_a_record_without_its_attempt_guard_is_found(monkeypatch: Patch) -> None:
    monkeypatch.setattr(transitions, "_stale", lambda state, event: "")
    assert "stale record" in search(Chain).broken


@pytest.mark.parametrize("definition", [Pivot, Signed])
def test_a_way_back_past_the_pivot_is_found(definition: type[SagaDefinition], monkeypatch: Patch) -> None:
    for module in (drafts, interventions, transitions):
        monkeypatch.setattr(module, "past_pivot", lambda definition, state: False)
    assert "pivot" in search(definition).broken


def test_a_saga_that_goes_back_to_a_wait_breaks_no_rule() -> None:
    assert crash_matrix(Asked, depth=2).histories > 100


def test_a_cancel_that_is_answered_and_not_done_is_found(monkeypatch: Patch) -> None:
    monkeypatch.setattr(interventions, "UNDOING", frozenset())
    assert "rule 24" in search(Chain).broken


# --- Broken participants and definitions --------------------------------------------------------------


class WithoutTombstones(Participants):
    """Undoes nothing for a key that it does not know, and does the late action then."""

    def _undo(self, request: Request, action_key: str) -> None:
        if self.ask(action_key) is not None:
            super()._undo(request, action_key)


class WithoutKeys(Participants):
    """Does everything it is asked to, however often."""

    def receive(self, request: Request, refusal: Refused | None = None) -> Outcome:
        if request.undoes is None:
            self.operations.pop(request.key, None)
        return super().receive(request, refusal)


@pytest.mark.parametrize("participants", [WithoutTombstones, WithoutKeys])
def test_a_participant_that_breaks_the_contract_is_found(participants: type[Participants]) -> None:
    assert "effect" in search(Chain, contract=participants).broken


class NeedsItsResult(SagaDefinition, register=False):
    """Cannot be undone when the answer of its only step was lost."""

    type = "needs_its_result"

    @step
    def take(self, saga: SagaView) -> Call:
        return shop.post("take")

    @take.compensation
    def give_back(self, saga: SagaView) -> Call:
        return shop.post("give-back", id=saga.results.take["id"])


def test_a_compensation_that_needs_its_actions_result_is_found() -> None:
    found = search(NeedsItsResult)
    assert "KeyError" in found.broken
    assert len(found.history) < 20, found


def test_the_history_found_is_a_short_one() -> None:
    found = search(Chain, store=ForgetsRevision)
    assert len(found.history) < 25, found


def test_patience_of_the_search_is_bounded() -> None:
    report = crash_matrix(Chain, depth=3, limit=50)
    assert report.histories == 50
    assert report.ends.total() == 50


def test_a_random_history_that_breaks_a_rule_is_told_without_what_does_not_matter() -> None:
    def world(number: int, choices: Choices) -> World:
        return world_of(Group(), store=ForgetsEpoch())(choices)

    with pytest.raises(BrokenInvariant, match="rule 4") as caught:
        random_histories(world, 2000, seed=7)
    assert re.fullmatch(r"history \d+ of seed 7", caught.value.history[0])
    assert len(caught.value.history) < 25, caught.value
