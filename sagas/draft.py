"""A decision in the making: how a saga moves forward and backward, step by step. Pure."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sagas.definition import (
    PATIENT,
    Call,
    Child,
    Fallback,
    SagaDefinition,
    Step,
    Wait,
    plain,
)
from sagas.facts import awaited, fits, past_pivot, started_a_child, undo_set, view
from sagas.state import (
    FINISHED,
    SAGA_EDGES,
    Decision,
    Effect,
    Entry,
    IllegalTransition,
    SagaState,
    Status,
    StepState,
    StepStatus,
    replace,
    with_step,
)


def _over(step: StepState) -> dict[str, Any] | None:
    """What is remembered of a step's wait: late signals of its name belong to it (rule 17)."""
    name = awaited(step)
    return None if name is None else {"kind": (step.wait or {})["kind"], "name": name}


class Draft:
    """A decision in the making: the state as it shall be, and what the audit will say."""

    def __init__(self, definition: SagaDefinition, state: SagaState, now: datetime) -> None:
        self.definition = definition
        self.before = state
        self.state = state
        self.now = now
        self.changed: set[int] = set()
        self.audit: list[Entry] = []

    def decision(self) -> Decision:
        """The finished decision."""
        state = replace(self.state, rev=self.before.rev + 1)
        reopens = self.before.status in FINISHED and state.status not in FINISHED
        begins = (
            state.awaits_lock and not self.before.awaits_lock and self.definition.lock_conflict == "refuse"
        )
        takes_lock = state.lock_key is not None and (reopens or begins)
        return Decision(self.before.rev, state, tuple(sorted(self.changed)), tuple(self.audit), takes_lock)

    def update(self, **changes: Any) -> None:
        """Change the saga itself; a change of status must be an edge of the table."""
        status = changes.get("status", self.state.status)
        if status is not self.state.status and status not in SAGA_EDGES[self.state.status]:
            raise IllegalTransition(f"{self.state.id}: {self.state.status} to {status}")
        self.state = replace(self.state, **changes)

    def update_step(self, position: int, /, **changes: Any) -> None:
        """Change one step."""
        self.state = replace(
            self.state, steps=with_step(self.state.steps, replace(self.state.steps[position], **changes))
        )
        self.changed.add(position)

    def note(self, kind: str, position: int | None = None, /, **detail: Any) -> None:
        """Add an audit row."""
        name, attempt = "", 0
        if position is not None:
            step = self.state.steps[position]
            name, attempt = step.name, step.undo_attempts if self.state.backward else step.attempts
        self.audit.append(Entry(kind, name, attempt, detail))

    def declared(self, position: int) -> Step:
        """The step's declaration."""
        return self.definition.steps[position]

    def go_on(self) -> None:
        """Continue in the direction of the saga as it stands now; without its lock it has none."""
        if self.state.status is Status.COMPENSATING:
            self.undo_next()
        elif self.state.awaits_lock:
            return
        elif self.state.status in (Status.PENDING, Status.IN_PROGRESS, Status.WAITING):
            self.advance()

    # --- forward

    def advance(self) -> None:
        """Make due whatever may run now; finish if nothing is left, wait if all that is left waits."""
        self._open_stages()
        if self.state.status not in (Status.PENDING, Status.IN_PROGRESS, Status.WAITING):
            return
        if all(s.status in (StepStatus.COMPLETED, StepStatus.SKIPPED) for s in self.state.steps):
            self._complete()
        else:
            self.rest()

    def _open_stages(self) -> None:
        for step_def in self.definition.steps:
            step = self.state.steps[step_def.position]
            if step.status in (StepStatus.COMPLETED, StepStatus.SKIPPED):
                continue
            if not self._stage_open(step_def.stage):
                return
            if step.status is StepStatus.PENDING and step.due_at is None:
                self.fall_due(step_def.position)
                if self.state.status in (Status.PARKED, Status.COMPENSATING):
                    return

    def rest(self) -> None:
        """Waiting is a saga of which nothing is due nor in flight; its deadline stands still meanwhile.

        From the beginning of a pause on it is the pause that is added to the deadline, once it ends.
        """
        moving = any(step.due_at is not None or step.in_flight for step in self.state.steps)
        if self.state.status is Status.WAITING and moving:
            end = self.state.paused_at or self.now
            waited = max(end - (self.state.waiting_since or end), timedelta(0))
            deadline = self.state.deadline_at
            self.update(
                status=Status.IN_PROGRESS,
                waiting_since=None,
                deadline_at=deadline + waited if deadline is not None else None,
            )
        elif self.state.status in (Status.PENDING, Status.IN_PROGRESS) and not moving:
            self.update(
                status=Status.WAITING,
                waiting_since=self.now,
                started_at=self.state.started_at or self.now,
            )

    def _stage_open(self, stage: int) -> bool:
        """Rule 4: forward, due means every predecessor completed or skipped."""
        return all(
            self.state.steps[item.position].status in (StepStatus.COMPLETED, StepStatus.SKIPPED)
            for item in self.definition.steps
            if item.stage < stage
        )

    def fall_due(self, position: int) -> None:
        """Fix the request of a step and make it claimable, or skip it (rule 11)."""
        declared, step = self.declared(position), self.state.steps[position]
        request = step.request
        if request is None:
            known = view(self.definition, self.state)
            try:
                if declared.when is not None and not declared.when(known):
                    self.skip(position, "its condition did not hold")
                    return
                made = declared.action(self.definition, known)
                request = None if isinstance(made, Wait) else self._request(made)
            except Exception:  # whatever an author's code raises parks the saga, with its traceback
                self.park(position, "definition_error", traceback.format_exc(limit=-8))
                return
            if isinstance(made, Wait):
                self._open_wait(position, made)
                return
        self.update_step(position, request=request, due_at=self.now)

    def _open_wait(self, position: int, wait: Wait) -> None:
        """Wait without a task; a signal that came before is found in the mailbox (rule 17)."""
        end = wait.until
        if end is None and wait.timeout is not None:
            end = self.now + wait.timeout
        if wait.kind == "timer" and end is not None and end <= self.now:
            self.completed(position, {})
            return
        described = {
            "kind": wait.kind,
            "name": wait.name,
            "until": end.isoformat() if end else None,
            "seconds": (end - self.now).total_seconds() if end else None,
        }
        self.update_step(position, status=StepStatus.WAITING, wait=described, started_at=self.now)
        self.note("step_waiting", position, **described)
        self.read_mail(position)

    def read_mail(self, position: int) -> None:
        """Let a waiting step consume the first signal it waits for."""
        step = self.state.steps[position]
        wait, name = step.wait or {}, awaited(step)
        if step.status is not StepStatus.WAITING or name is None:
            return
        mail = next((m for m in self.state.mailbox if m["name"] == name), None)
        if mail is None:
            return
        self.update(mailbox=tuple(m for m in self.state.mailbox if m is not mail))
        data = mail["data"]
        if wait["kind"] == "approval" and not (isinstance(data, dict) and data.get("approved") is True):
            reason = data.get("reason") if isinstance(data, dict) else ""
            self.failed(position, Effect.NONE, "rejected", str(reason or "not approved"), "refused")
        else:
            self.completed(position, data)

    def read_all_mail(self) -> None:
        """Let every waiting step do so, unless one of them turns the saga."""
        for step in self.state.steps:
            if not self.state.backward:
                self.read_mail(step.position)

    def forget_mail(self, steps: Iterable[StepState]) -> None:
        """Drop unread signals for these steps, whose generation ends: each binds to one (rule 17)."""
        names = {awaited(step) for step in steps}
        stale = [mail["name"] for mail in self.state.mailbox if mail["name"] in names]
        if stale:
            self.update(mailbox=tuple(m for m in self.state.mailbox if m["name"] not in names))
            self.note("signals_dropped", names=stale)

    def _request(self, made: Any) -> dict[str, Any]:
        if isinstance(made, Child):
            return {"child": {"type": made.type, "data": plain(made.data)}}
        if isinstance(made, Call):
            return {
                "participant": made.participant,
                "method": made.method,
                "path": made.path,
                "body": made.body,
                "issued_at": self.now.isoformat(),
            }
        return {"value": plain(made)}

    def completed(self, position: int, result: Any) -> None:
        """A step is done: it takes its place in the order of doing."""
        self.draw_sequence(position)
        self.update_step(
            position,
            status=StepStatus.COMPLETED,
            effect=Effect.DONE,
            result=result,
            error=None,
            wait=_over(self.state.steps[position]),
            due_at=None,
            lease_until=None,
            finished_at=self.now,
        )
        self.note("step_completed", position)

    def failed(self, position: int, effect: Effect, code: str, reason: str, kind: str) -> None:
        """A step is given up; beside a parked one that shows when the saga goes on."""
        refused = kind == "refused"
        name = self.declared(position).name
        self.update_step(
            position,
            status=StepStatus.FAILED,
            effect=effect,
            error={"step": name, "code": code, "reason": reason, "refused": refused},
            wait=_over(self.state.steps[position]),
            lease_until=None,
            due_at=None,
            finished_at=self.now,
        )
        if effect is Effect.UNKNOWN:
            self.draw_sequence(position)
        self.note(f"step_{kind}", position, code=code, reason=reason)
        if self.state.status not in (Status.IN_PROGRESS, Status.WAITING, Status.PENDING):
            return
        self.give_up(position)
        if self.state.steps[position].status is StepStatus.PENDING:
            reason = f"{reason} (past the pivot there is no way back)"
            self.park(position, code, reason, refused=refused)

    def give_up(self, position: int) -> None:
        """What a failed step means: it is skipped, or kept for another try past the pivot, or the saga turns.

        A child that lives is not left behind by a step that is skipped: it is undone (rule 18).
        """
        declared, step = self.declared(position), self.state.steps[position]
        error = step.error or {}
        child_lives = step.effect is Effect.UNKNOWN and started_a_child(step)
        if declared.fallback is Fallback.SKIP and not declared.pivot and not child_lives:
            self.skip(position, f"given up: {error.get('reason')}")
        elif past_pivot(self.definition, self.state):
            self.update_step(position, status=StepStatus.PENDING, finished_at=None)
        else:
            self.turn({"step": step.name, "code": error.get("code"), "reason": error.get("reason")})

    def skip(self, position: int, reason: str) -> None:
        """Settle a step that is not done."""
        self.update_step(
            position,
            status=StepStatus.SKIPPED,
            due_at=None,
            lease_until=None,
            wait=_over(self.state.steps[position]),
            finished_at=self.now,
            error={"code": "skipped", "reason": reason},
        )
        step = self.state.steps[position]
        if step.effect is Effect.UNKNOWN and step.sequence is None:
            self.draw_sequence(position)
        self.note("step_skipped", position, reason=reason)

    def _complete(self) -> None:
        try:
            result = plain(self.definition.result(view(self.definition, self.state)))
        except Exception:  # as in fall_due
            self.park(None, "definition_error", traceback.format_exc(limit=-8))
            return
        self.update(status=Status.COMPLETED, result=result, error=None, finished_at=self.now, paused_at=None)
        self.note("saga_completed")

    def park(self, position: int | None, code: str, reason: str, *, refused: bool = False) -> None:
        """Leave the saga to a person; nothing is undone by that (rule 8).

        `refused`: the participant said no for good, so going on takes a new key (rule 11).
        """
        name = self.state.steps[position].name if position is not None else ""
        error = {"step": name, "code": code, "reason": reason, "refused": refused}
        if self.state.backward:
            if position is not None:
                self.update_step(
                    position,
                    status=StepStatus.COMPENSATION_FAILED,
                    undo_error=error,
                    due_at=None,
                    lease_until=None,
                )
            self.update(status=Status.COMPENSATION_FAILED)
            left = [s.name for s in self.undo_set()] if fits(self.definition, self.state) else []
            self.note("compensation_failed", position, code=code, reason=reason, undos_left=left)
            return
        if position is not None:
            self.update_step(position, error=error)
        self.update(status=Status.PARKED, error=error)
        self.note("saga_parked", position, code=code, reason=reason)

    # --- backward

    def undo_set(self) -> list[StepState]:
        """What is left to be undone, in the order of doing."""
        return undo_set(self.definition, self.state)

    def turn(self, error: dict[str, Any]) -> None:
        """Go backward: settle what has not begun, then undo (rule 13)."""
        self.update(
            status=Status.COMPENSATING,
            epoch=self.state.epoch + 1,
            error=error,
            rings=0,
            finished_at=None,
            waiting_since=None,
        )
        self.note("saga_turned", **error)
        for step in self.state.steps:
            if step.in_flight or step.status not in (StepStatus.PENDING, StepStatus.WAITING):
                continue
            begun = step.attempts > 0
            self.update_step(
                step.position,
                status=StepStatus.FAILED if begun else StepStatus.SKIPPED,
                due_at=None,
                wait=_over(step),
                finished_at=self.now,
            )
            if step.effect is Effect.UNKNOWN:
                self.draw_sequence(step.position)
        self.undo_next()

    def run_again(self, first: int = 0) -> None:
        """Forward from step `first` under new generations: old effects are undone or never were (rule 11)."""
        self.update(
            status=Status.IN_PROGRESS,
            epoch=self.state.epoch + 1,
            rings=0,
            extensions=0,
            error=None,
            result=None,
            retreat_to=None,
            finished_at=None,
            deadline_at=self.now + self.definition.deadline,
        )
        self.forget_mail(self.state.steps[first:])
        for step in self.state.steps[first:]:
            used = step.attempts or step.wait or step.finished_at
            clean = StepState(
                step.position,
                step.name,
                generation=step.generation + (1 if used else 0),
                undo_generation=step.undo_generation + (1 if step.undo_attempts else 0),
            )
            self.update_step(step.position, **{n: getattr(clean, n) for n in StepState.__slots__})
        self.advance()

    def count_total_anew(self, position: int) -> None:
        """A retry policy's `total` is measured from its next claim on: nobody tried in the meantime.

        Only of a step with such a policy, since the step's start as people see it moves with it.
        """
        declared = self.declared(position)
        undo = declared.undo.retry if declared.undo is not None else PATIENT
        if self.state.backward and undo.total is not None:
            self.update_step(position, undo_started_at=None)
        elif not self.state.backward and declared.retry.total is not None:
            self.update_step(position, started_at=None)

    def draw_sequence(self, position: int) -> None:
        """The step's place in the order of doing, drawn under the saga's lock (rule 13)."""
        self.update(sequence=self.state.sequence + 1)
        self.update_step(position, sequence=self.state.sequence)

    def undo_next(self) -> None:
        """Make the latest effect's compensation due, once nothing is in flight; finish if none is left."""
        if any(step.in_flight for step in self.state.steps):
            return
        left = self.undo_set()
        if not left and self.state.retreat_to is not None:
            self.run_again(self.state.retreat_to)
            return
        if not left:
            undone = any(step.effect is Effect.UNDONE for step in self.state.steps)
            status = Status.COMPENSATED if undone else Status.FAILED
            self.update(status=status, finished_at=self.now, paused_at=None)
            self.note(f"saga_{status}")
            return
        position = left[-1].position
        if self.state.steps[position].due_at is None:
            self._undo_falls_due(position)

    def _undo_falls_due(self, position: int) -> None:
        declared, request = self.declared(position).undo, self.state.steps[position].undo_request
        if declared is None:
            request = {"undo_child": True}
        elif request is None:
            try:
                made = declared.function(self.definition, view(self.definition, self.state))
                request = self._request(made)
            except Exception:  # as in fall_due
                self.park(position, "definition_error", traceback.format_exc(limit=-8))
                return
        self.update_step(position, undo_request=request, due_at=self.now)
