"""All that is neither worker nor participant: scans, people, deadlines, signals."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from datetime import datetime, timedelta
from uuid import UUID

from sagas import children, interventions
from sagas.errors import LockHeld, NotAllowed
from sagas.facts import idempotency_key
from sagas.interventions import Wish
from sagas.state import (
    FINISHED,
    NEEDS_PERSON,
    Decision,
    Done,
    Entry,
    LeaseExpired,
    Overdue,
    Polled,
    Refused,
    Resolved,
    Rung,
    SagaState,
    Signalled,
    StepState,
    StepStatus,
    WaitOver,
)
from sagas.testing.invariants import Cause
from sagas.testing.stage import Moves, Stage, due
from sagas.testing.trouble import Question, Signal

PAUSED_FOR = timedelta(hours=1)

# --- Scans --------------------------------------------------------------------------------------------


def scan(
    take: Callable[[int], list[UUID]], mend: Callable[[Stage], Moves], stages: Mapping[UUID, Stage]
) -> Moves:
    """One tick of a scan."""
    for saga_id in take(50):
        yield from mend(stages[saga_id])


def resume(stage: Stage) -> Moves:
    """What `recovery.resume` does."""
    state, who = stage.state, "the recovery scan"
    rang_for = due(state)
    for step in state.steps:
        if step.lease_until is not None and step.lease_until <= stage.now:
            state = yield from stage.happen(LeaseExpired(step.position, _learn(stage, state, step)), who)
        elif step.status is StepStatus.WAITING:
            state = yield from _look_at_wait(stage, state, step)
    if state.awaits_lock:
        state = yield from stage.take_lock(who)
    if rang_for and due(state):
        state = yield from stage.happen(Rung(), who)
    stage.ring(state, due(state))


def give_up(stage: Stage) -> Moves:
    """What `recovery.give_up` does."""
    state = yield from stage.happen(Overdue(), "the timeout scan")
    stage.ring(state, due(state))


def _learn(stage: Stage, state: SagaState, step: StepState) -> Done | Refused | None:
    backward = step.status is StepStatus.COMPENSATING
    request = (step.undo_request if backward else step.request) or {}
    if "participant" not in request:
        return None
    if stage.pick(f"question about {step.name}", tuple(Question)) is Question.FAILED:
        stage.note(f"the participant does not say what became of {step.name}")
        return None
    return stage.participants.ask(idempotency_key(state.id, step, backward=backward))


def _look_at_wait(
    stage: Stage, state: SagaState, step: StepState
) -> Generator[datetime | None, None, SagaState]:
    wait, who = step.wait or {}, "the recovery scan"
    if wait.get("kind") == "child":
        child = stage.store.child_of(idempotency_key(state.id, step, backward=False))
        ended = children.outcome(child) if child is not None else None
        if ended is not None:
            return (yield from stage.happen(Resolved(step.position, step.generation, ended), who))
    if wait.get("until") and datetime.fromisoformat(wait["until"]) <= stage.now:
        return (yield from stage.happen(WaitOver(step.position), who))
    if not wait.get("poll_at") or datetime.fromisoformat(wait["poll_at"]) > stage.now:
        return state
    learnt = _learn(stage, state, step) if wait["kind"] == "callback" else None
    if learnt is not None:
        return (yield from stage.happen(Resolved(step.position, step.generation, learnt), who))
    return (yield from stage.happen(Polled(step.position), who))


# --- People and deadlines -------------------------------------------------------------------------------


def intervene(stage: Stage, verb: str, reason: str = "asked to", wish: Wish | None = None) -> Moves:
    """An operator asks for something; what the engine does not allow is noted and has no effect."""
    who, wanted = Entry(verb, actor="operator", reason=reason), wish or Wish()
    try:
        interventions.mind_the_parent(stage.state, verb)
        settled = yield from stage.settle(
            stage.state,
            lambda known, now: interventions.intervene(stage.definition, known, verb, wanted, who, now),
            Cause("an operator", by_person=True),
        )
    except (NotAllowed, LockHeld) as error:
        stage.note(f"the operator may not {verb}: {error}")
        return
    if verb == "compensate":
        stage.monitor.cancelled = True
    if isinstance(settled.decision, Decision):
        stage.ring(settled.decision.state, due(settled.decision.state))


def pause(stage: Stage) -> Moves:
    """An operator pauses the saga, and ends the pause later."""
    yield from intervene(stage, "pause")
    yield stage.now + PAUSED_FOR
    if stage.state.paused_at is not None:
        yield from intervene(stage, "resume")


def time_out(stage: Stage, times: int) -> Moves:
    """The deadline passes `times` times, and the scan notices each."""
    for _ in range(times):
        deadline = stage.state.deadline_at
        if deadline is None or stage.state.status in FINISHED | NEEDS_PERSON:
            return
        stage.store.clock.reach(deadline)
        stage.note("the deadline passes")
        yield from give_up(stage)


# --- Signals --------------------------------------------------------------------------------------------


def send_signals(stage: Stage, step: StepState, number: int) -> Moves:
    """The outside sends, or does not send, what a waiting step waits for."""
    wait, story = step.wait or {}, stage.scene.script is not None
    fate = Signal.COMES if story else stage.pick(f"signal {wait.get('name')}", tuple(Signal))
    if fate is Signal.NEVER:
        stage.note(f"{wait.get('name')} {fate}")
        return
    data = {"approved": fate is not Signal.NO}
    if story:
        data = stage.scene.signals[stage.called(wait["name"])].pop(0)
    signal_id = f"{wait['name']}-{number}"
    again = {Signal.TWICE: [signal_id], Signal.ANEW: [f"{signal_id}-anew"]}.get(fate, [])
    for each in [signal_id, *again]:
        yield from signal(stage, wait["name"], data, each)


def signal(stage: Stage, name: str, data: object, signal_id: str) -> Moves:
    """One signal comes; one that came before under the same id is not told again."""
    known = {entry.request_id for entry in stage.store.audit(stage.saga_id)}
    if f"signal:{signal_id}" in known:
        return
    state = yield from stage.happen(Signalled(signal_id, name, data, "the outside"), "the outside")
    stage.ring(state, due(state))
