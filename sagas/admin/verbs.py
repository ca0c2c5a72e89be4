"""What the admin offers to do with a saga, as data: every verb of `interventions.VERBS`, and signals.

Before anything is done the pure decision behind a verb is asked what it would do; nothing but the
engine changes a saga.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.http import HttpRequest

from sagas import engine, foresight, interventions
from sagas.definition import SagaDefinition, registry
from sagas.errors import NotAllowed, SagaError
from sagas.interventions import Wish
from sagas.models import SagaEvent
from sagas.state import (
    Decision,
    Entry,
    Nothing,
    SagaState,
    Signalled,
    Status,
    StepStatus,
)
from sagas.transitions import decide

PROMINENT = ("approve", "reject", "retry", "compensate")
DANGEROUS = ("compensate", "reject", "resolve", "skip", "retry-from")
# Where the verb's own words name its arguments, which operators do not see.
HELP = {
    "skip": "Leave a step out, with a result given by you; what it may have done is still undone later.",
    "resolve": "The saga was handled outside: it ends as you say, and nothing more is done.",
    "change-deadline": "Give the saga another deadline.",
}

Deciding = Callable[[SagaDefinition, SagaState, Wish, Entry, datetime], Decision | Nothing]
Carrying = Callable[[UUID, Wish, Entry], engine.Progress]


@dataclass(frozen=True, slots=True)
class Offer:
    """One thing that can be done: how it is asked for, decided, and carried out by the engine.

    `arguments` names the fields of the `Wish` that the operator fills in. The entry given to
    `carry` holds who, why and the request id that makes repeating harmless.
    """

    name: str
    label: str
    help: str
    permission: str
    decide: Deciding
    carry: Carrying
    arguments: tuple[str, ...] = ()

    @property
    def choice(self) -> str:
        """The argument that is one of a few, which depend on the saga; empty if there is none."""
        return next((name for name in ("step", "outcome") if name in self.arguments), "")

    @property
    def bulk(self) -> bool:
        """Whether it makes sense for a selection of sagas."""
        return not self.choice

    @property
    def danger(self) -> bool:
        """Whether it takes back or gives up work."""
        return self.name in DANGEROUS

    @property
    def prominent(self) -> bool:
        """Whether it is a button of its own on a saga's page."""
        return self.name in PROMINENT

    def permitted(self, request: HttpRequest) -> bool:
        """Whether this user may do it."""
        return bool(request.user.has_perm(f"sagas.{self.permission}"))


# --- The engine's verbs -------------------------------------------------------------------------------


def _of_verb(verb: interventions.Verb) -> Offer:
    def decision(
        definition: SagaDefinition, state: SagaState, wish: Wish, who: Entry, now: datetime
    ) -> Decision | Nothing:
        return engine.wished(state, verb.name, wish, who, now)

    def carry(saga_id: UUID, wish: Wish, who: Entry) -> engine.Progress:
        return engine.intervene(
            saga_id, verb.name, actor=who.actor, reason=who.reason, request_id=who.request_id, wish=wish
        )

    told = HELP.get(verb.name, verb.help)
    return Offer(verb.name, verb.label, told, verb.permission, decision, carry, verb.arguments)


# --- Signals ------------------------------------------------------------------------------------------

Content = Callable[[Wish, Entry], Any]


def _awaited(state: SagaState, wish: Wish, kind: str) -> str:
    """The name of the signal that the step named by `wish` waits for."""
    for step in state.steps:
        wait = step.wait or {}
        if step.name == wish.step and step.status is StepStatus.WAITING and wait.get("kind") == kind:
            return str(wait["name"])
    raise NotAllowed(
        f"the saga does not wait for {'an approval' if kind == 'approval' else 'a signal'} there"
    )


def _of_signal(
    name: str, label: str, help_text: str, kind: str, arguments: tuple[str, ...], content: Content
) -> Offer:
    def decision(
        definition: SagaDefinition, state: SagaState, wish: Wish, who: Entry, now: datetime
    ) -> Decision | Nothing:
        event = Signalled("foreseen", _awaited(state, wish, kind), content(wish, who), who.actor)
        return decide(definition, state, event, now)

    def carry(saga_id: UUID, wish: Wish, who: Entry) -> engine.Progress:
        state = engine.load(saga_id)
        if SagaEvent.objects.filter(saga=saga_id, request_id=f"signal:{who.request_id}").exists():
            return engine.Progress(state)
        awaited = _awaited(state, wish, kind)
        data = content(wish, who)
        return engine.signal(saga_id, awaited, data, signal_id=who.request_id or "", actor=who.actor)

    return Offer(name, label, help_text, "steer_saga", decision, carry, arguments)


SIGNALS = (
    _of_signal(
        "approve",
        "Approve",
        "Say yes to what the saga waits for.",
        "approval",
        ("step",),
        lambda wish, who: {"approved": True, "reason": who.reason, "by": who.actor},
    ),
    _of_signal(
        "reject",
        "Reject",
        "Say no to what the saga waits for: the step is refused, which as a rule undoes the saga.",
        "approval",
        ("step",),
        lambda wish, who: {"approved": False, "reason": who.reason, "by": who.actor},
    ),
    _of_signal(
        "signal",
        "Send its signal",
        "Give a step the signal that it waits for; the data becomes the step's result.",
        "signal",
        ("step", "data"),
        lambda wish, who: wish.data,
    ),
)
OFFERS: Mapping[str, Offer] = {
    offer.name: offer for offer in (*map(_of_verb, interventions.VERBS.values()), *SIGNALS)
}


# --- Foresight ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outlook:
    """What one decision would do: for which choice, the status it leads to, and the rest in words."""

    choice: str
    after: str
    lines: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Foresight:
    """What an offer would do to one saga as it stands now; the engine decides afresh when it is done."""

    saga_id: UUID
    type: str
    before: str
    outlooks: tuple[Outlook, ...] = ()
    refusal: str = ""

    @property
    def allowed(self) -> bool:
        """False if the engine would refuse it or find nothing to do."""
        return not self.refusal


def foresee(offer: Offer, state: SagaState, actor: str, now: datetime, *, first: bool = False) -> Foresight:
    """Ask the decision behind `offer` and put it in words; with `first`, for one possible choice only."""
    foresight = Foresight(state.id, state.type, state.status)
    outlooks, refusals = [], []
    try:
        definition = registry.get(state.type, state.version)
        for wish in _wishes(offer, state, now):
            try:
                outlooks.append(_outlook(offer, definition, state, wish, Entry(offer.name, actor=actor), now))
            except NotAllowed as error:
                refusals.append(str(error))
            if first and outlooks:
                break
    except SagaError as error:  # no code for it here
        refusals.append(str(error))
    if not outlooks:
        return replace(foresight, refusal=refusals[0] if refusals else "nothing can be chosen")
    return replace(foresight, outlooks=tuple(outlooks))


def _wishes(offer: Offer, state: SagaState, now: datetime) -> Iterator[Wish]:
    sample = Wish(deadline=now + timedelta(hours=1) if "deadline" in offer.arguments else None)
    match offer.choice:
        case "step":
            yield from (replace(sample, step=step.name) for step in state.steps)
        case "outcome":
            ends = (Status.COMPLETED, Status.FAILED, Status.COMPENSATED)
            yield from (replace(sample, outcome=end.value) for end in ends)
        case _:
            yield sample


def _outlook(
    offer: Offer, definition: SagaDefinition, state: SagaState, wish: Wish, who: Entry, now: datetime
) -> Outlook:
    decision = offer.decide(definition, state, wish, who, now)
    if isinstance(decision, Nothing):
        raise NotAllowed(decision.reason)
    after = decision.state
    lines = () if "deadline" in offer.arguments else tuple(foresight.lines(definition, state, after))
    return Outlook(wish.step or wish.outcome, after.status, lines)
