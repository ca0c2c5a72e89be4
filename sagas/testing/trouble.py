"""What may go wrong, and when: the options that histories choose from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from sagas.state import Refused


class Trouble(StrEnum):
    """What may go wrong with one call."""

    NONE = "is answered"
    REFUSED = "is refused"
    TRANSIENT = "is not processed (busy)"
    ALWAYS_TRANSIENT = "is never processed (busy)"
    LOST_REQUEST = "is lost on its way"
    ALWAYS_LOST_REQUEST = "is lost on its way every time"
    LOST_ANSWER = "is processed, the answer is lost"
    ALWAYS_LOST_ANSWER = "is processed, the answer is lost every time"
    LATE = "times out and arrives 3 s later"
    DAY_LATE = "times out and arrives a day later"
    FORBIDDEN = "is forbidden (401)"
    DIES_BEFORE = "is not sent, the worker dies"
    DIES_AFTER = "is processed, and the worker dies"
    SLEEPS_BEFORE = "is sent only after the worker has slept past its lease"
    SLEEPS_AFTER = "is answered, and the worker sleeps past its lease"
    HELD_BACK = "is held back by a limit"
    CIRCUIT_OPEN = "is held back by an open circuit"
    ACCEPTED = "is accepted, its word comes a minute later"
    ACCEPTED_MUTE = "is accepted, its word never comes"


ALWAYS = {
    Trouble.ALWAYS_TRANSIENT: Trouble.TRANSIENT,
    Trouble.ALWAYS_LOST_REQUEST: Trouble.LOST_REQUEST,
    Trouble.ALWAYS_LOST_ANSWER: Trouble.LOST_ANSWER,
}
LATENESS = {Trouble.LATE: timedelta(seconds=3), Trouble.DAY_LATE: timedelta(days=1)}
ACCEPTING = frozenset({Trouble.ACCEPTED, Trouble.ACCEPTED_MUTE})
OF_CALLS = tuple(trouble for trouble in Trouble if trouble not in ACCEPTING)
OF_SLOW_CALLS = tuple(Trouble)
OF_LOCAL_STEPS = (Trouble.NONE, Trouble.DIES_BEFORE, Trouble.DIES_AFTER, Trouble.SLEEPS_AFTER)
OF_CHILDREN = (*OF_LOCAL_STEPS, Trouble.SLEEPS_BEFORE)


class Fate(StrEnum):
    """What may become of a message."""

    SENT = "is sent"
    LOST = "is lost"
    TWICE = "is sent twice"
    DAY_LATE = "comes a day late"


class Commit(StrEnum):
    """What may become of a commit."""

    DONE = "is done"
    ANSWER_LOST = "is done, but its answer is lost"


class Meanwhile(StrEnum):
    """What may happen to the saga between two transactions of a worker."""

    NOTHING = "nothing"
    CANCELLED = "an operator cancels"
    OVERDUE = "the deadline passes"
    TIMED_OUT = "the saga times out"
    PAUSED = "an operator pauses it for an hour"
    HURRIED = "an operator wants it retried now"
    SENT_BACK = "an operator goes back to the first step"
    SENT_HERE = "an operator goes back to this step"
    LEFT_OUT = "an operator skips the step behind"


class AtTheEnd(StrEnum):
    """What an operator may want once a saga has come to rest."""

    NOTHING = "nothing"
    RETRY = "an operator retries"
    CANCEL = "an operator cancels"
    GO_BACK = "an operator goes back to the first step"
    LEAVE_OUT = "an operator skips the step that is left"


class Question(StrEnum):
    """What may become of a status query."""

    ANSWERED = "answers"
    FAILED = "does not answer"


class Memory(StrEnum):
    """What may be known of the last answer to a call, when a step falls back to it."""

    NONE = "is not known"
    FRESH = "is just fresh enough"
    STALE = "is too old"


class Signal(StrEnum):
    """What may become of a signal that a saga waits for."""

    COMES = "comes"
    TWICE = "comes twice"
    ANEW = "comes a second time under another id"
    NEVER = "never comes"
    NO = "says no"


@dataclass(frozen=True, slots=True)
class Reply:
    """How a scripted call goes: a trouble, and the refusal, pause or reason that comes with it."""

    trouble: Trouble = Trouble.NONE
    refusal: Refused | None = None
    retry_after: timedelta | None = None
    reason: str = ""


Script = Callable[[str], Reply | None]
