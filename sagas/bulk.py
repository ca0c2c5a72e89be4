"""One verb on many sagas: what would happen to each, and doing it at a bounded pace (rule 24).

The command line and the API share this. A request under an id of its own is fixed to the sagas it
first found, so that its repeat goes on with the same ones: who was seen to already is left alone,
and a run that was cut short is finished.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from sagas import engine
from sagas.definition import plain
from sagas.errors import IdempotencyConflict, SagaError
from sagas.interventions import VERBS, Wish
from sagas.models import BulkRequest, Saga
from sagas.state import SagaState

Ring = Callable[[SagaState, Sequence[int]], None]
Pause = Callable[[float], None]


class Became(StrEnum):
    """What became of one saga, or would: `unchanged` if there is nothing to do."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Item:
    """One saga of a bulk: the status it has or would have (empty if refused or left), and what or why."""

    id: UUID
    became: Became
    status: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which sagas: those of `ids`, or else the first `limit` with this status and type."""

    ids: tuple[UUID, ...] = ()
    status: str = ""
    type: str = ""
    limit: int = 100

    def find(self) -> list[UUID]:
        """The ids, oldest saga first; each once."""
        if self.ids:
            return list(dict.fromkeys(self.ids))
        wanted = {name: value for name in ("status", "type") if (value := getattr(self, name))}
        found = Saga.objects.filter(**wanted).order_by("id").values_list("id", flat=True)
        return list(found[: self.limit])


@dataclass(frozen=True, slots=True)
class Order:
    """A verb with its arguments, who wants it and why."""

    verb: str
    actor: str
    reason: str
    wish: Wish


def foretell(ids: Iterable[UUID], verb: str, wish: Wish) -> Iterator[Item]:
    """What the verb would make of each saga as it stands; nothing is written."""
    for saga_id in ids:
        try:
            foreseen = engine.foresee(saga_id, verb, wish=wish)
        except SagaError as error:
            yield Item(saga_id, Became.REFUSED, detail=str(error))
            continue
        became = Became.CHANGED if foreseen.status else Became.UNCHANGED
        yield Item(saga_id, became, foreseen.status, foreseen.detail)


def found(selection: Selection, request_id: str) -> list[UUID]:
    """The sagas that a request found when it was made, or would find now."""
    known = BulkRequest.objects.filter(request_id=request_id).first()
    return selection.find() if known is None else [UUID(saga_id) for saga_id in known.ids]


def settled(
    order: Order, selection: Selection, request_id: str, seen: Sequence[UUID] | None = None
) -> list[UUID]:
    """The sagas of a request: those it found when it was first made, or that were `seen` for it just before.

    Raises:
        IdempotencyConflict: the id was used with another request.
    """
    asked = [order.verb, order.reason, asdict(order.wish), asdict(selection)]
    fingerprint = hashlib.sha256(json.dumps(plain(asked), sort_keys=True).encode()).hexdigest()
    known = BulkRequest.objects.filter(request_id=request_id).first()
    if known is None:
        ids = selection.find() if seen is None else seen
        known, _ = BulkRequest.objects.get_or_create(
            request_id=request_id,
            defaults={
                "verb": order.verb,
                "actor": order.actor,
                "reason": order.reason,
                "fingerprint": fingerprint,
                "ids": [str(saga_id) for saga_id in ids],
                "at": engine.clock.now(),
            },
        )
    if known.fingerprint != fingerprint:
        raise IdempotencyConflict(f"the request id {request_id!r} was used with another request")
    return [UUID(saga_id) for saga_id in known.ids]


def carry_out(
    order: Order,
    ids: Iterable[UUID],
    request_id: str,
    *,
    ring: Ring,
    per_second: float,
    pause: Pause = time.sleep,
) -> Iterator[Item]:
    """Do it, saga after saga, at most `per_second` of them; one's refusal keeps it from no other.

    Each is rung for as soon as it is written, so the workers' load is paced as well.
    """
    begun = time.monotonic()
    for number, saga_id in enumerate(ids):
        early = begun + number / per_second - time.monotonic()
        if early > 0:
            pause(early)
        yield _carry_out(order, saga_id, request_id, ring)


def _carry_out(order: Order, saga_id: UUID, request_id: str, ring: Ring) -> Item:
    try:
        before = engine.load(saga_id)
        done = engine.intervene(
            saga_id,
            order.verb,
            actor=order.actor,
            reason=order.reason,
            request_id=request_id,
            wish=order.wish,
        )
    except SagaError as error:
        return Item(saga_id, Became.REFUSED, detail=str(error))
    if done.state is None:
        return Item(saga_id, Became.REFUSED, detail=f"there is no saga {saga_id}")
    ring(done.state, done.due)
    changed = done.state.rev != before.rev
    return Item(saga_id, Became.CHANGED if changed else Became.UNCHANGED, done.state.status)


def wish_of(verb: str, given: Mapping[str, Any]) -> Wish:
    """The arguments of a verb out of what was given; the rest of it is for others."""
    return Wish(**{name: given[name] for name in VERBS[verb].arguments if given.get(name) is not None})
