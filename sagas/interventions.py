"""What a person may do to a saga, as pure decisions; `engine.intervene` applies them (rule 24).

A verb works on a draft. It raises `NotAllowed` with what would be allowed instead, or returns why
there is nothing to do (an empty string if there was). Whatever changes where the saga goes starts
a new epoch, so that messages sent before find nothing to claim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sagas import waits
from sagas.definition import SagaDefinition, plain
from sagas.draft import Draft
from sagas.errors import DefinitionError, NotAllowed
from sagas.facts import past_pivot, started_a_child, unstarted
from sagas.state import (
    FINISHED,
    NEEDS_PERSON,
    UNDO_UNFINISHED,
    Decision,
    Effect,
    Entry,
    Nothing,
    SagaState,
    Status,
    StepState,
    StepStatus,
)

UNDOING = frozenset({Status.COMPENSATING, Status.COMPENSATION_FAILED})
UNSTARTED = "the saga was not started yet; use execute first"


@dataclass(frozen=True, slots=True)
class Wish:
    """The arguments of a verb; each verb reads those that it names in `VERBS`."""

    step: str = ""
    data: Any = None
    undo: bool = False
    outcome: str = ""
    deadline: datetime | None = None


def intervene(
    definition: SagaDefinition, state: SagaState, verb: str, wish: Wish, who: Entry, now: datetime
) -> Decision | Nothing:
    """Decide on a person's wish.

    Raises:
        NotAllowed: the saga's state forbids it, or an argument is missing; the message says the mend.
    """
    draft = Draft(definition, state, now)
    detail = {k: plain(getattr(wish, k)) for k in VERBS[verb].arguments if getattr(wish, k) is not None}
    draft.audit.append(replace(who, kind=verb, step=wish.step, detail=detail))
    reason = VERBS[verb].apply(draft, wish)
    return Nothing(reason) if reason else draft.decision()


def mind_the_parent(state: SagaState, verb: str) -> None:
    """A child is undone or run again by its parent only, which relies on its outcome (rule 18).

    Raises:
        NotAllowed: naming the parent.
    """
    ends = verb == "compensate" or (verb in ("retry", "retry-from") and state.status in FINISHED)
    if state.parent_id is not None and ends:
        raise NotAllowed(f"this saga is a child; ask for {verb} of its parent {state.parent_id}")


def _step(draft: Draft, wish: Wish) -> StepState:
    if not wish.step:
        raise NotAllowed("name the step: one of " + ", ".join(s.name for s in draft.state.steps))
    try:
        return draft.state.steps[draft.definition.by_name(wish.step).position]
    except DefinitionError as error:
        raise NotAllowed(str(error)) from None


def _new_epoch(draft: Draft, **changes: Any) -> None:
    draft.update(epoch=draft.state.epoch + 1, rings=0, **changes)


# --- Going on -----------------------------------------------------------------------------------------


def execute(draft: Draft, wish: Wish) -> str:
    """Start a saga that was created to wait for it; one that runs or has ended just stays as it is."""
    if not unstarted(draft.state):
        return "the saga was started before"
    _new_epoch(draft, deadline_at=draft.now + draft.definition.deadline)
    if draft.state.lock_key is not None:
        draft.update(status=Status.WAITING, waiting_since=draft.now)
    else:
        draft.advance()
    return ""


def retry(draft: Draft, wish: Wish) -> str:
    """Let a saga go on that failed, is parked, or waits for its next attempt."""
    match draft.state.status:
        case Status.FAILED | Status.COMPENSATED:
            draft.run_again()
        case Status.COMPENSATION_FAILED:
            _undo_again(draft)
        case Status.PARKED:
            _unpark(draft)
        case Status.IN_PROGRESS | Status.COMPENSATING:
            return _hurry(draft)
        case Status.WAITING:
            raise NotAllowed("the saga waits for the outside; send what it waits for, or skip the step")
        case Status.COMPLETED:
            raise NotAllowed("the saga has completed; there is nothing to retry")
        case _:
            raise NotAllowed(UNSTARTED)
    return ""


def _undo_again(draft: Draft) -> None:
    """Let a parked compensation go on: a definite refusal asks for a new key (rule 11)."""
    _new_epoch(draft, status=Status.COMPENSATING)
    for step in draft.state.steps:
        if step.status is not StepStatus.COMPENSATION_FAILED:
            continue
        new_key = bool((step.undo_error or {}).get("refused"))
        draft.update_step(
            step.position,
            status=StepStatus.COMPENSATING,
            undo_generation=step.undo_generation + (1 if new_key else 0),
            undo_request=None if new_key else step.undo_request,
            undo_attempts=0 if new_key else step.undo_attempts,
            undo_forgiven=0 if new_key else step.undo_attempts,
            undo_crashes=0,
            undo_error=None,
        )
        if (step.undo_error or {}).get("code") == UNDO_UNFINISHED:
            draft.update_step(step.position, undo_started_at=None)
        draft.count_total_anew(step.position)
    draft.undo_next()


def _unpark(draft: Draft) -> None:
    """Let a parked saga go on forward, unless something failed beside the parked step that turns it."""
    _new_epoch(draft, status=Status.IN_PROGRESS, error=None)
    for step in draft.state.steps:
        if step.status is StepStatus.FAILED:
            draft.give_up(step.position)
        if draft.state.backward:
            return
    for step in draft.state.steps:
        if step.status is StepStatus.PENDING and step.due_at is None:
            new_key = bool((step.error or {}).get("refused"))
            if new_key:
                draft.forget_mail([step])
            draft.update_step(
                step.position,
                generation=step.generation + (1 if new_key else 0),
                request=None if new_key else step.request,
                attempts=0 if new_key else step.attempts,
                forgiven=0 if new_key else step.attempts,
                crashes=0,
                error=None,
            )
        if step.status is StepStatus.PENDING:
            draft.count_total_anew(step.position)
        waits.postpone(draft, step.position, draft.now + waits.length_of(step))
    later = draft.now + draft.definition.deadline
    draft.update(deadline_at=max(draft.state.deadline_at or later, later))
    draft.read_all_mail()
    draft.go_on()


def _hurry(draft: Draft) -> str:
    """Make due now what waits for its next attempt."""
    due = [step for step in draft.state.steps if step.due_at is not None]
    if not due:
        return "its current step is being worked on"
    for step in due:
        draft.update_step(step.position, due_at=draft.now)
    _new_epoch(draft)
    return ""


def retry_from(draft: Draft, wish: Wish) -> str:
    """Undo what lies at a step and after, then go forward again from there."""
    first, state = _step(draft, wish), draft.state
    if state.status in (Status.FAILED, Status.COMPENSATED):
        raise NotAllowed("the whole saga is undone; use retry to run it again")
    if state.status in UNDOING:
        raise NotAllowed("the saga is being undone; let that end, then use retry")
    if past_pivot(draft.definition, state):
        raise NotAllowed("the saga is past its point of no return; it can only go forward")
    if draft.declared(first.position).group:
        raise NotAllowed("the step is a member of a parallel group; name the first step behind or before it")
    if first.status is StepStatus.PENDING and not first.attempts and first.due_at is None:
        raise NotAllowed("the saga has not come to that step yet")
    draft.update(retreat_to=first.position)
    draft.turn({"step": first.name, "code": "retry_from", "reason": "an operator goes back to this step"})
    return ""


# --- Going back ---------------------------------------------------------------------------------------


def compensate(draft: Draft, wish: Wish) -> str:
    """Undo a running, parked, waiting or completed saga."""
    state, why = draft.state, draft.audit[0].reason or "requested"
    error = {"step": "", "code": "compensation_requested", "reason": why}
    if state.status in UNDOING and state.retreat_to is not None:
        _retreat_for_good(draft, error)
        return ""
    if state.status in (Status.COMPENSATING, Status.COMPENSATED):
        return "the saga is being undone or is undone"
    if state.status is Status.FAILED:
        raise NotAllowed("the saga failed with nothing to undo; use retry to run it again")
    if state.status is Status.COMPENSATION_FAILED:
        raise NotAllowed("its compensation is parked; use retry to let it go on")
    if past_pivot(draft.definition, state):
        raise NotAllowed("the saga is past its point of no return; it can only go forward")
    if state.status is Status.COMPLETED and not draft.undo_set():
        raise NotAllowed("the saga has completed and none of its steps can be undone")
    draft.turn(error)
    return ""


def _retreat_for_good(draft: Draft, error: dict[str, Any]) -> None:
    """A saga on its way back to a step goes all the way; if its compensation is parked, once that goes on."""
    _new_epoch(draft, retreat_to=None, error=error)
    draft.note("retreat_cancelled")
    draft.go_on()


# --- Settling by hand -----------------------------------------------------------------------------------


def _by_hand(draft: Draft, wish: Wish) -> StepState:
    step = _step(draft, wish)
    if unstarted(draft.state):
        raise NotAllowed(UNSTARTED)
    if draft.state.awaits_lock:
        raise NotAllowed(f"the saga waits for its lock {draft.state.lock_key!r}; its steps have not begun")
    if step.in_flight:
        raise NotAllowed("a worker is on that step; pause the saga and wait for its answer first")
    if step.status in (StepStatus.COMPLETED, StepStatus.SKIPPED, StepStatus.COMPENSATED):
        raise NotAllowed(f"the step is {step.status} already")
    if draft.state.status in FINISHED:
        raise NotAllowed(f"the saga is {draft.state.status}; nothing of it can be settled by hand")
    if not draft.state.backward:
        _mind_the_child(step)
    return step


def _mind_the_child(step: StepState) -> None:
    """A child that lives must not be left behind by a parent that no longer waits for it (rule 18)."""
    not_started = (step.error or {}).get("code") == "child_not_started"
    if started_a_child(step) and step.effect is Effect.UNKNOWN and not not_started:
        raise NotAllowed(
            f"step {step.name} has started a saga of its own; settle that one, or go back with retry-from"
        )


def skip(draft: Draft, wish: Wish) -> str:
    """Leave a step out, with `data` as its output; what it may have done is still undone later."""
    step = _by_hand(draft, wish)
    if draft.state.backward:
        raise NotAllowed("the saga is being undone; use mark-done to settle a compensation by hand")
    draft.skip(step.position, draft.audit[0].reason)
    draft.update_step(step.position, result=wish.data)
    _after_hand(draft)
    return ""


def mark_done(draft: Draft, wish: Wish) -> str:
    """A step (or, backward, its compensation) was done by hand.

    Forward `data` is its result; it is undone automatically only with `undo=True`.
    """
    step = _by_hand(draft, wish)
    if draft.state.backward:
        draft.update_step(
            step.position,
            status=StepStatus.COMPENSATED,
            effect=Effect.UNDONE,
            due_at=None,
            undo_error=None,
            undo_finished_at=draft.now,
        )
    else:
        draft.completed(step.position, wish.data)
        if not wish.undo:
            draft.update_step(step.position, effect=Effect.NONE)
    _after_hand(draft)
    return ""


def _after_hand(draft: Draft) -> None:
    _new_epoch(draft)
    if draft.state.status is Status.COMPENSATION_FAILED:
        draft.update(status=Status.COMPENSATING)
    if draft.state.status is Status.PARKED:
        _unpark(draft)
    elif draft.state.backward:
        draft.undo_next()
    else:
        draft.advance()


def resolve(draft: Draft, wish: Wish) -> str:
    """A parked saga was handled outside: it ends as `outcome` says, and nothing more is done."""
    state = draft.state
    if state.status not in NEEDS_PERSON:
        raise NotAllowed("only a parked saga can be resolved as handled outside; compensate or skip instead")
    allowed = {"compensated"} if state.backward else {"completed", "failed"}
    if wish.outcome not in allowed:
        raise NotAllowed(f"say how it ended: outcome is one of {', '.join(sorted(allowed))}")
    for step in state.steps:
        if step.in_flight:
            raise NotAllowed(f"a worker is on step {step.name}; wait for its answer first")
        if step.status in (StepStatus.PENDING, StepStatus.WAITING):
            _mind_the_child(step)
            draft.skip(step.position, "handled outside")
        if step.due_at is not None:
            draft.update_step(step.position, due_at=None)
    _new_epoch(draft, status=Status(wish.outcome), finished_at=draft.now, paused_at=None)
    return ""


# --- Pausing and deadlines -------------------------------------------------------------------------------


def pause(draft: Draft, wish: Wish) -> str:
    """Let nothing more be claimed; what is in flight is still recorded."""
    if draft.state.status in FINISHED:
        raise NotAllowed(f"the saga is {draft.state.status}; there is nothing to pause")
    if draft.state.paused_at is not None:
        return "the saga is paused"
    _new_epoch(draft, paused_at=draft.now)
    return ""


def resume(draft: Draft, wish: Wish) -> str:
    """End a pause, whose length is added to the deadline; or let a parked saga go on."""
    paused = draft.state.paused_at
    if paused is None:
        if draft.state.status in NEEDS_PERSON:
            return retry(draft, wish)
        return "the saga is neither paused nor parked"
    since = draft.state.waiting_since if draft.state.status is Status.WAITING else None
    end = draft.now if since is None else max(since, paused)  # from there on it counts as waiting
    deadline = draft.state.deadline_at
    shifted = deadline + (end - paused) if deadline is not None else None
    _new_epoch(draft, paused_at=None, deadline_at=shifted)
    for step in draft.state.steps:
        if step.due_at is not None:
            draft.update_step(step.position, due_at=draft.now)
            draft.count_total_anew(step.position)
        if (until := waits.end_of(step)) is not None:
            held = draft.now - max(paused, step.started_at or paused)
            waits.postpone(draft, step.position, until + held)
    return ""


def change_deadline(draft: Draft, wish: Wish) -> str:
    """Give the saga another deadline (an aware datetime in the future)."""
    if draft.state.status in FINISHED:
        raise NotAllowed(f"the saga is {draft.state.status}; its deadline has no meaning any more")
    if unstarted(draft.state):
        raise NotAllowed(UNSTARTED)
    if wish.deadline is None or wish.deadline.tzinfo is None:
        raise NotAllowed("give the new deadline as an aware datetime, such as 2030-01-01T12:00:00+00:00")
    if wish.deadline <= draft.now + timedelta(seconds=1):
        raise NotAllowed("the new deadline lies in the past; use compensate to give the saga up")
    draft.update(deadline_at=wish.deadline)
    return ""


@dataclass(frozen=True, slots=True)
class Verb:
    """One intervention as the API, the admin and the command line offer it."""

    name: str
    label: str
    permission: str
    apply: Callable[[Draft, Wish], str]
    arguments: tuple[str, ...] = ()

    @property
    def help(self) -> str:
        """What it does, in a sentence."""
        return (self.apply.__doc__ or "").strip().splitlines()[0]


VERBS: Mapping[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb("execute", "Start", "start_saga", execute),
        Verb("retry", "Retry", "retry_saga", retry),
        Verb("retry-from", "Retry from a step", "retry_saga", retry_from, ("step",)),
        Verb("compensate", "Compensate", "compensate_saga", compensate),
        Verb("skip", "Skip a step", "steer_saga", skip, ("step", "data")),
        Verb("mark-done", "Mark a step done", "steer_saga", mark_done, ("step", "data", "undo")),
        Verb("pause", "Pause", "steer_saga", pause),
        Verb("resume", "Resume", "steer_saga", resume),
        Verb("resolve", "Resolve as handled outside", "steer_saga", resolve, ("outcome",)),
        Verb("change-deadline", "Change the deadline", "steer_saga", change_deadline, ("deadline",)),
    )
}
