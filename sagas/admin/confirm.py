"""The confirmation of an intervention: what will happen to each saga, why it is wanted, and doing it.

The form carries a request id, so sending it twice is harmless (rule 24).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django import forms
from django.http import QueryDict

from sagas import dispatch, engine
from sagas.admin.looks import short, words
from sagas.admin.verbs import Foresight, Offer, foresee
from sagas.errors import SagaError, SagaNotFound
from sagas.interventions import Wish
from sagas.models import SagaEvent
from sagas.state import Entry

AT_ONCE = 100
RINGING = timedelta(seconds=3)


class Json(forms.JSONField):
    """JSON that may stay empty, and then looks empty."""

    def prepare_value(self, value: Any) -> Any:
        """What the field shows."""
        return "" if value is None else super().prepare_value(value)


def _choices(foreseen: Sequence[Foresight]) -> list[tuple[str, str]]:
    found = [outlook.choice for foresight in foreseen for outlook in foresight.outlooks]
    return [(choice, choice) for choice in dict.fromkeys(found)]


# How each argument of a `Wish` is asked for.
FIELDS: Mapping[str, Callable[[Sequence[Foresight]], forms.Field]] = {
    "step": lambda foreseen: forms.ChoiceField(choices=_choices(foreseen)),
    "outcome": lambda foreseen: forms.ChoiceField(choices=_choices(foreseen), label="How it ended"),
    "data": lambda foreseen: Json(
        required=False,
        label="Result of the step",
        help_text="JSON that later steps will read, such as an object of ids. May stay empty.",
        widget=forms.Textarea(attrs={"rows": 3, "cols": 80, "spellcheck": "false"}),
    ),
    "undo": lambda foreseen: forms.BooleanField(
        required=False, label="Undo it automatically if the saga is compensated later"
    ),
    "deadline": lambda foreseen: forms.DateTimeField(
        label="New deadline (UTC)",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        initial=lambda: engine.clock.now() + timedelta(hours=1),
    ),
}


class ReasonForm(forms.Form):
    """What the offer asks, why, and the id that makes repeating harmless."""

    reason = forms.CharField(
        max_length=500,
        error_messages={"required": "Say why; the reason is kept in the audit."},
        widget=forms.Textarea(
            attrs={"rows": 2, "cols": 80, "placeholder": "For the audit: who asked, what happened"}
        ),
    )
    request_id = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, offer: Offer, foreseen: Sequence[Foresight], sent: QueryDict | None = None) -> None:
        super().__init__(sent, initial={"request_id": uuid4()})
        for name in offer.arguments:
            self.fields[name] = FIELDS[name](foreseen)
        if sent is not None and offer.choice:
            # A form sent twice chooses what is no longer possible: the engine knows it for a repeat.
            chosen = sent.get(offer.choice, "")[:80]
            self.fields[offer.choice] = forms.ChoiceField(choices=[*_choices(foreseen), (chosen, chosen)])
        self.order_fields([*offer.arguments, "reason", "request_id"])
        next(iter(self.fields.values())).widget.attrs["autofocus"] = True
        self.arguments = offer.arguments

    def wish(self) -> Wish:
        """The arguments as the engine takes them."""
        return Wish(**{name: self.cleaned_data[name] for name in self.arguments})


def parse_ids(given: Iterable[str]) -> list[UUID]:
    """The ids of a request, each once.

    Raises:
        ValueError: one is no UUID, or there are more than `AT_ONCE`.
    """
    ids = list(dict.fromkeys(UUID(text) for text in given))
    if len(ids) > AT_ONCE:
        raise ValueError(f"{len(ids)} sagas at once; at most {AT_ONCE} can be chosen")
    return ids


def foresee_all(offer: Offer, ids: Sequence[UUID], actor: str) -> list[Foresight]:
    """What `offer` would do to each; a saga that is not there is left out."""
    seen = []
    for saga_id in ids:
        try:
            state = engine.load(saga_id)
        except SagaNotFound:
            continue
        seen.append(foresee(offer, state, actor, engine.clock.now()))
    return seen


@dataclass(slots=True)
class Report:
    """What became of an intervention on several sagas: a sentence each."""

    done: list[str] = field(default_factory=list)
    nothing: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    unrung: int = 0


def carry_out(offer: Offer, ids: Sequence[UUID], wish: Wish, who: Entry) -> Report:
    """Let the engine do it to each saga, and ring for what that made due.

    One saga's refusal does not keep the verb from the others. A broker that cannot be reached costs
    a second or two for every ring, so ringing ends after `RINGING`; the recovery scan does the rest.
    """
    report, spent = Report(), 0.0
    changed: dict[UUID, engine.Progress] = {}
    for saga_id in ids:
        try:
            changed[saga_id] = offer.carry(saga_id, wish, who)
        except SagaError as error:
            report.refused.append(f"{short(saga_id)}: {error}")
    asked = _in_the_audit(changed, who.request_id or "")
    for saga_id, progress in changed.items():
        state = progress.state
        if state is None:
            continue
        paused = ", paused" if state.paused_at is not None else ""
        line = f"{short(saga_id)} ({state.type}) is {words(state.status)}{paused}"
        (report.done if saga_id in asked else report.nothing).append(line)
        if spent > RINGING.total_seconds():
            report.unrung += bool(progress.due)
            continue
        began = time.monotonic()
        dispatch.ring(state, progress.due, engine.clock.now())
        spent += time.monotonic() - began
    return report


def _in_the_audit(sagas: Iterable[UUID], request_id: str) -> set[UUID]:
    """Those whose audit has this request: done now, or by the same form sent before."""
    ids = [request_id, f"signal:{request_id}"]
    rows = SagaEvent.objects.filter(saga__in=list(sagas), request_id__in=ids)
    return set(rows.values_list("saga_id", flat=True))
