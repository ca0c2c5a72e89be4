"""Has participants misbehave towards one saga or choreography, through their own switch (`/faults`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any, Self, TypedDict
from uuid import UUID

import urllib3
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from sagas import directory
from sagas.choreography.events import requested_id
from sagas.conf import conf
from sagas.errors import SagaError

KINDS: Mapping[str, str] = {
    "refuse": "Refuses, for a business reason",
    "error_before": "Fails before doing anything (500)",
    "error_after": "Does it, then answers 500",
    "reset_before": "Drops the connection before doing anything",
    "reset_after": "Does it, then drops the connection",
    "hang_after": "Does it, then answers late (3 s)",
    "cut": "Does it, then sends half an answer",
    "unavailable": "Is unavailable for a moment (503)",
    "too_early": "Says that it is still at it (425)",
    "unauthorized": "Does not accept our credential (for a person to look at)",
    "not_found": "Does not know the operation (for a person to look at)",
}


class Choreographed(TypedDict):
    """What the choreographed twin of a saga type is called, and the operations that its groups call."""

    kind: str
    doing: list[str]
    undoing: list[str]


CHOREOGRAPHED: Mapping[str, Choreographed] = {
    "checkout_saga": {
        "kind": "checkout",
        "doing": ["reserve-stock", "price-items", "create-order", "send-confirmation"],
        "undoing": ["cancel-order", "release-stock"],
    },
    "order_saga": {
        "kind": "order",
        "doing": ["reserve-stock", "process-payment", "create-order", "send-confirmation"],
        "undoing": ["refund-payment", "cancel-order", "release-stock"],
    },
}
HANGS = 3.0
AT_ONCE = 8
PATIENCE = 3.0


class NotSwitched(SagaError):
    """A participant could not be told, or has no switch; the message says which."""


def known(kind: str) -> str:
    """Refuse what is none of the kinds."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind; known: {', '.join(KINDS)}")
    return kind


class Fault(BaseModel):
    """How one step, or the undoing of one, is to go wrong; without `times` it lasts.

    A choreography has no steps: there `step` names an operation of a participant.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: Annotated[str, Field(min_length=1, max_length=80)]
    kind: Annotated[str, AfterValidator(known)]
    times: Annotated[int, Field(ge=1, le=100)] | None = 1


class Begins(BaseModel):
    """The choreography that its user is about to begin: at that path, under that idempotency key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[str, Field(min_length=1, max_length=200)]
    key: Annotated[str, Field(min_length=1, max_length=255)]


class Wanted(BaseModel):
    """The faults of one saga, or of one choreography."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    saga_id: UUID | None = None
    begins: Begins | None = None
    faults: Annotated[tuple[Fault, ...], Field(min_length=1, max_length=10)]

    @model_validator(mode="after")
    def of_one(self) -> Self:
        """Either, not both."""
        if (self.saga_id is None) == (self.begins is None):
            raise ValueError("give either saga_id or begins")
        return self


def switch_on(wanted: Wanted, user_id: object) -> None:
    """Tell every participant, since a step does not say which one it will call; only that one will be hit.

    Raises:
        NotSwitched: one of them could not be told, or none has such an operation.
    """
    for fault in wanted.faults:
        body = {
            **struck(wanted, fault, user_id),
            "kind": fault.kind,
            "times": fault.times,
            "seconds": HANGS if fault.kind == "hang_after" else 1.0,
            "code": "chosen_fault",
            "reason": "somebody chose that this should go wrong",
        }
        if not any(everywhere(partial(ask, method="POST", body=body))):
            raise NotSwitched(f"no participant has an operation {fault.step}")


def struck(wanted: Wanted, fault: Fault, user_id: object) -> dict[str, Any]:
    """Which calls a fault is to hit."""
    if wanted.begins is not None:
        stream = requested_id(user_id, wanted.begins.path, wanted.begins.key)
        return {"operation": fault.step, "match": {"saga_id": str(stream)}}
    return {"operation": "*", "match": {"saga_id": str(wanted.saga_id), "saga_step": fault.step}}


def listed() -> list[dict[str, JsonValue]]:
    """The faults that are on and not used up, each once though every participant has it."""
    found: dict[str, dict[str, JsonValue]] = {}
    for of_participant in everywhere(partial(ask, method="GET")):
        for fault in (one for faults in of_participant.values() for one in faults):
            if fault["remaining"] is None or fault["remaining"] > 0:
                shown = {name: fault[name] for name in ("operation", "kind", "remaining", "match")}
                same = [fault["operation"], fault["kind"], *sorted(shown["match"].items())]
                found.setdefault(repr(same), shown)
    return list(found.values())


def cleared() -> int:
    """Switch all off; how many there were."""
    return sum(int(answer.get("removed", 0)) for answer in everywhere(partial(ask, method="DELETE")))


def everywhere(asking: Callable[[str], dict[str, Any]]) -> list[dict[str, Any]]:
    """What each participant answers, several asked at once."""
    with ThreadPoolExecutor(AT_ONCE) as askers:
        return list(askers.map(asking, conf().participants))


def ask(name: str, method: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What one participant answers about its faults; nothing if it has no such operation.

    Raises:
        NotSwitched: it did not answer, or said no.
    """
    target = conf().participants[name]
    headers = {"Authorization": f"Bearer {directory.credential(target)}"}
    url = f"{directory.addresses(target)[0]}/faults"
    try:
        with urllib3.PoolManager(retries=False, timeout=PATIENCE) as http:
            answer = http.request(method, url, headers=headers, json=body, redirect=False)
            document = answer.json()
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        raise NotSwitched(f"{name} did not answer: {error}") from None
    if document.get("code") == "unknown_operation":
        return {}
    if answer.status not in (200, 201):
        raise NotSwitched(f"{name} says: {document.get('reason', answer.status)}")
    data: dict[str, Any] = document["data"]
    return data
