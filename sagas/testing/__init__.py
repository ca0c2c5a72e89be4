"""Tests of saga definitions without servers, databases or waiting.

Tell one story and how it must end; time is virtual, participants keep the contract:

    from sagas.testing import given, lost_answer, refused

    def test_a_refused_payment_releases_the_stock():
        (
            given(PurchaseSaga, store_id=1, ...)
            .when("process-payment", refused("insufficient funds"))
            .expect("release-inventory")
            .ends("compensated")
        )

What may happen to a call (`times=` repeats it, `ALWAYS` for ever):

    refused(reason, code)      the participant says no
    transient()                provably not processed, tried again
    unknown()                  the request is lost, the engine cannot know
    lost_answer()              it took effect, the engine cannot know
    late()                     it times out, and arrives a day later
    forbidden()                401: the saga is parked for a person
    accepted()                 202: done later, then called back about, or not
    held_back()                not sent: a limit, or an open circuit
    worker_lost()              the worker dies with the call behind it, or before it

Steps whose results are computed with get exact ones: `.answering("fetch-product", price="9.99")`.
Other answers have whatever field is asked for. `.cancelled_during(step)` and
`.timed_out_during(step)` let an operator or the deadline come in while a call is under way;
`.signalled(name, data)` and `.approved(name)` send what a step waits for.
A step that starts another saga starts the real one: `child/step` tells what happens to its steps.
`.beside(label, Other, ...)` runs another saga at the same time. `ends` returns the final state,
those of the others, the calls in order and the readable history.

Then let the machine think of the rest:

    def test_nothing_breaks_it():
        print(crash_matrix(PurchaseSaga, data, answers={"fetch-product": {"price": "9.99"}}))

`crash_matrix` runs the definition through every failure at every point and through pairs of them:
refusals, busy participants, lost requests and answers, late arrivals, workers that die or sleep,
lost, doubled and late messages, lost commits, cancel, timeout, retry by an operator; in children as
well, and with a rival where the saga takes a lock. It fails with the shortest history after which a
saga is stuck, an effect happened twice, an effect still stands though the saga was undone, undoing
went in the wrong order, or two sagas worked under one lock. `random_histories` does the same
with chains of failures of any length from a seed, and leaves out of a failing history all that
does not matter.
"""

from sagas.testing.choices import Chance, Choices
from sagas.testing.invariants import BrokenInvariant
from sagas.testing.matrix import Report, crash_matrix, random_histories, world_of
from sagas.testing.participants import Anything, Participants
from sagas.testing.scenario import (
    ALWAYS,
    Ended,
    Happening,
    Scenario,
    accepted,
    forbidden,
    given,
    held_back,
    late,
    lost_answer,
    refused,
    transient,
    unknown,
    worker_lost,
)
from sagas.testing.store import AskedBefore, MemoryStore, VirtualClock
from sagas.testing.trouble import Reply, Trouble
from sagas.testing.world import World

__all__ = [
    "ALWAYS",
    "Anything",
    "AskedBefore",
    "BrokenInvariant",
    "Chance",
    "Choices",
    "Ended",
    "Happening",
    "MemoryStore",
    "Participants",
    "Reply",
    "Report",
    "Scenario",
    "Trouble",
    "VirtualClock",
    "World",
    "accepted",
    "crash_matrix",
    "forbidden",
    "given",
    "held_back",
    "late",
    "lost_answer",
    "random_histories",
    "refused",
    "transient",
    "unknown",
    "worker_lost",
    "world_of",
]
