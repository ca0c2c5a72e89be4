"""Calls a participant for one event and group, under the key event:group, and returns what is definite.

Circuits and limits are those of the engine's workers (`sagas.breaker`): what either learns of a
participant holds for both.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

from sagas import breaker, metrics, remote
from sagas.calls import Call
from sagas.choreography.conf import conf
from sagas.choreography.events import Event, key_of
from sagas.clock import clock
from sagas.state import Done, Impossible, Outcome, Refused, Transient, Unknown


class Unsettled(Exception):
    """Nobody knows yet what became of a call; the event must be delivered again."""


class Held(Exception):
    """The call is to be made after `wait`, and this delivery does not count.

    Nothing was sent, since the participant's circuit is open or it is at its limit; or it was an
    undoing, which is not given up because its participant is away (rule 12).
    """

    def __init__(self, reason: str, wait: timedelta) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class ParticipantCaller:
    """The caller that reactions get."""

    event: Event
    group: str

    def __call__(self, call: Call, *, undoes: str = "") -> Done | Refused:
        """One attempt.

        Raises:
            Held: the call was not made, or it is an undoing that got no definite answer.
            Unsettled: the participant gave no definite answer, or one that a person must look at.
        """
        outcome = self._perform(call, undoes)
        if isinstance(outcome, Impossible) and outcome.code == "key_mismatch":
            # An earlier delivery asked for something else under this key, such as another price:
            # what was done then counts.
            outcome = remote.ask(call.participant, self.key)
        match outcome:
            case Done() | Refused():
                return outcome
            case Transient() | Unknown() if undoes and self._patient(outcome):
                raise Held(f"{call.participant}{call.path}: {outcome.reason}", self._pause(outcome))
            case Transient() | Unknown() | Impossible():
                raise Unsettled(f"{call.participant}{call.path}: {outcome.reason}")
            case _:
                raise Unsettled(f"{call.participant}{call.path}: {outcome}")

    @property
    def key(self) -> str:
        """The idempotency key of this event and group."""
        return key_of(self.event.id, self.group)

    def _patient(self, outcome: Transient | Unknown) -> bool:
        """Whether to go on undoing: for as long as nothing is done there, and for long if that is unknown."""
        return isinstance(outcome, Transient) or self._age < conf().undoing

    def _pause(self, outcome: Transient | Unknown) -> timedelta:
        """What the participant asks for; else it grows with the age of the event."""
        asked = outcome.retry_after if isinstance(outcome, Transient) else None
        return max(conf().backoff, self._age / 4) if asked is None else asked

    @property
    def _age(self) -> timedelta:
        return clock.now() - self.event.time

    def _perform(self, call: Call, undoes: str) -> Outcome:
        event = self.event
        request = {
            "participant": call.participant,
            "method": call.method,
            "path": call.path,
            "body": call.body,
            "issued_at": event.time.isoformat(),
        }
        envelope = remote.Envelope(
            saga_id=event.stream,
            step=self.group,
            key=self.key,
            correlation_id=event.correlation_id,
            timeout=conf().call_timeout,
            compensates=undoes or None,
            # Of the same stream, whose events are minutes apart; what counts here is days.
            compensates_issued_at=event.time.isoformat() if undoes else "",
        )
        circuit, ticket = breaker.of(call.participant), breaker.new_ticket()
        held = circuit.admit(ticket, envelope.timeout, force=False)
        if held is not None:
            raise Held(held.reason, held.wait)
        began = time.monotonic()
        outcome = remote.perform(request, envelope, clock.now())
        metrics.called(call.participant, time.monotonic() - began)
        circuit.note(ticket, outcome)
        return outcome
