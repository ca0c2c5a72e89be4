"""Simulated workers: claim, act, record, as `worker.py` does, with all that may happen to them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from datetime import datetime, timedelta

from sagas.definition import Cached
from sagas.errors import DefinitionError
from sagas.facts import idempotency_key
from sagas.state import (
    Accepted,
    CachedResult,
    Decision,
    Deferred,
    Done,
    Impossible,
    Nothing,
    Outcome,
    Recorded,
    Refused,
    Resolved,
    SagaState,
    Transient,
    Unknown,
)
from sagas.testing.family import start_child, undo_child
from sagas.testing.invariants import Cause
from sagas.testing.participants import Request
from sagas.testing.stage import LEASE_MARGIN, Moves, Stage, due
from sagas.testing.trouble import (
    ACCEPTING,
    ALWAYS,
    LATENESS,
    OF_CALLS,
    OF_CHILDREN,
    OF_LOCAL_STEPS,
    OF_SLOW_CALLS,
    Memory,
    Reply,
    Trouble,
)

OVERSLEEPS = timedelta(minutes=3)
HELD_FOR = timedelta(seconds=5)
CALLS_BACK_AFTER = timedelta(minutes=1)

Interruption = Callable[[Stage, str, int], Moves]


class WorkerDied(Exception):
    """The end of a worker, not an error."""


def work(stage: Stage, who: str, position: int, epoch: int, interruption: Interruption) -> Moves:
    """What a worker does with one message; inline it goes on with the next step that is due."""
    yield from interruption(stage, "before the claim", position)
    state = claim(stage, who, position, epoch)
    while state is not None:
        yield from interruption(stage, "before the call", position)
        outcome, reply = yield from _call(stage, state, position)
        yield from interruption(stage, "before the record", position)
        decision, claimed = yield from _record(stage, who, state, position, outcome)
        if isinstance(decision, Nothing):
            fresh = stage.state
            stage.ring(fresh, due(fresh) if fresh.epoch == state.epoch else ())
            return
        if outcome == Accepted("callback") and reply.trouble is not Trouble.ACCEPTED_MUTE:
            stage.act("the participant", _call_back(stage, state, position), at=stage.now + CALLS_BACK_AFTER)
        stage.ring(decision.state, decision.due)
        if claimed is None:
            return
        state, position = decision.state, claimed


def claim(stage: Stage, who: str, position: int, epoch: int) -> SagaState | None:
    """Claim a step, watched by the monitor."""
    before, item = stage.state, stage.definition.steps[position]
    lease = max(item.timeout, item.undo.timeout if item.undo else timedelta(0)) + LEASE_MARGIN
    after = stage.store.claim(stage.saga_id, position, epoch, lease)
    if after is None:
        stage.note(f"{who} finds nothing to claim in {stage.name(before, position)}")
        return None
    step = after.steps[position]
    attempt = step.undo_attempts if after.backward else step.attempts
    stage.note(f"{who} claims {stage.name(after, position)} (attempt {attempt})")
    stage.claimed(before, after, position, epoch, who)
    return after


def _record(
    stage: Stage, who: str, state: SagaState, position: int, outcome: Outcome
) -> Generator[datetime | None, None, tuple[Decision | Nothing, int | None]]:
    step, item = state.steps[position], stage.definition.steps[position]
    attempt, generation = (
        (step.undo_attempts, step.undo_generation) if state.backward else (step.attempts, step.generation)
    )
    cached = None
    if isinstance(item.fallback, Cached) and not state.backward:
        cached = _known_before(stage, item.name, item.fallback.max_age, outcome)
    event = Recorded(position, state.backward, generation, attempt, outcome, cached)
    inline = stage.definition.execution == "inline"
    settled = yield from stage.settle(state, stage.decided(event), Cause(who, position), go_on=inline)
    return settled.decision, settled.claimed


def _known_before(stage: Stage, step: str, max_age: timedelta, outcome: Outcome) -> CachedResult | None:
    """What the same call answered last: as the story says, or as chance has it."""
    if not isinstance(outcome, Transient | Unknown | Deferred):
        return None
    usual = stage.participants.usual(step)
    if stage.scene.script is not None:
        told = stage.scene.cached.get(stage.called(step))
        return replace(told, result=usual) if told is not None and told.result is None else told
    memory = stage.pick(f"last answer of {step}", tuple(Memory))
    if memory is Memory.NONE:
        return None
    stage.note(f"the last answer of {step} {memory}")
    return CachedResult(usual, max_age if memory is Memory.FRESH else max_age + timedelta(seconds=1))


def _call(
    stage: Stage, state: SagaState, position: int
) -> Generator[datetime | None, None, tuple[Outcome, Reply]]:
    step = state.steps[position]
    stored = (step.undo_request if state.backward else step.request) or {}
    name, lease = stage.name(state, position), step.lease_until or stage.now
    reply = _reply(stage, state, position)
    trouble = ALWAYS.get(reply.trouble, reply.trouble)
    if trouble is not Trouble.NONE:
        stage.note(f"the call of {name} {trouble}")
    if trouble is Trouble.DIES_BEFORE:
        raise WorkerDied
    request = request_of(stage, state, position)
    if trouble is Trouble.SLEEPS_BEFORE:
        yield lease + OVERSLEEPS
    outcome: Outcome
    if "value" in stored:
        outcome = Done(stored["value"])
    elif "child" in stored:
        outcome = yield from start_child(stage, state, position)
    elif "undo_child" in stored:
        outcome = yield from undo_child(stage, state, position)
    else:
        outcome = _send(stage, request, trouble, reply)
    if trouble is Trouble.DIES_AFTER:
        raise WorkerDied
    if trouble is Trouble.SLEEPS_AFTER:
        yield lease + OVERSLEEPS
    return outcome, reply


def _reply(stage: Stage, state: SagaState, position: int) -> Reply:
    """How the call goes: as the story says, as it always goes now, or as chance has it."""
    name, backward = stage.name(state, position), state.backward
    options = _options(stage, state, position)
    if stage.scene.script is not None:
        reply = stage.scene.script(stage.called(name)) or Reply()
        if options is OF_CHILDREN and reply.trouble not in options:
            raise DefinitionError(f"{name!r} starts a saga; say what happens to its steps: '{name}/...'")
        return reply
    if (position, backward) in stage.sticky:
        return Reply(stage.sticky[position, backward])
    trouble = stage.pick(f"call of {name}", options)
    if trouble in ALWAYS:
        stage.sticky[position, backward] = trouble
    return Reply(trouble)


def _options(stage: Stage, state: SagaState, position: int) -> tuple[Trouble, ...]:
    step = state.steps[position]
    stored = (step.undo_request if state.backward else step.request) or {}
    if "value" in stored:
        return OF_LOCAL_STEPS
    if "child" in stored or "undo_child" in stored:
        return OF_CHILDREN
    slow = stage.definition.steps[position].wait_limit is not None and not state.backward
    return OF_SLOW_CALLS if slow else OF_CALLS


def _send(stage: Stage, request: Request, trouble: Trouble, reply: Reply) -> Outcome:
    match trouble:
        case Trouble.TRANSIENT:
            return Transient(reply.reason or "busy", reply.retry_after)
        case Trouble.HELD_BACK | Trouble.CIRCUIT_OPEN:
            return Deferred("held back", HELD_FOR, trouble is Trouble.CIRCUIT_OPEN)
        case Trouble.FORBIDDEN:
            return Impossible("http_401", "forbidden")
        case Trouble.LOST_REQUEST:
            return Unknown(reply.reason or "connection reset")
        case Trouble.LATE | Trouble.DAY_LATE:
            stage.act("a late request", _arrive(stage, request), at=stage.now + LATENESS[trouble])
            return Unknown("timed out")
        case trouble if trouble in ACCEPTING:
            if stage.participants.ask(request.key) is None:
                stage.act("the participant", _arrive(stage, request), at=stage.now + CALLS_BACK_AFTER)
            return Accepted("callback")
    refusal = reply.refusal or Refused("refused", "refused")
    answer = stage.receive(request, refusal if trouble is Trouble.REFUSED else None)
    return Unknown(reply.reason or "connection reset") if trouble is Trouble.LOST_ANSWER else answer


def request_of(stage: Stage, state: SagaState, position: int) -> Request:
    """The request that the step's stored one is sent as."""
    step, backward = state.steps[position], state.backward
    stored = (step.undo_request if backward else step.request) or {}
    body = " ".join(str(stored.get(part, "")) for part in ("method", "path", "body"))
    return Request(
        position,
        stage.name(state, position),
        idempotency_key(state.id, step, backward=backward),
        body,
        idempotency_key(state.id, step, backward=False) if backward else None,
        stage.monitor.run,
    )


def _arrive(stage: Stage, request: Request) -> Moves:
    """A request reaches its participant at last, or work that was accepted is done."""
    stage.note(f"{request.step} is processed late")
    stage.receive(request)
    yield None


def _call_back(stage: Stage, state: SagaState, position: int) -> Moves:
    """The participant says what became of work that it had accepted."""
    step = state.steps[position]
    known = stage.participants.ask(idempotency_key(state.id, step, backward=False))
    if known is None:
        return
    stage.note(f"the participant calls back about {step.name}")
    after = yield from stage.happen(Resolved(position, step.generation, known), "the callback")
    stage.ring(after, due(after))
