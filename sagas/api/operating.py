"""What operators do to more than one saga: bulk interventions, circuits, and pauses of a whole type."""

from __future__ import annotations

import hashlib
import time
from threading import BoundedSemaphore
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import redis
import structlog
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from pydantic import AfterValidator, AwareDatetime, Field, JsonValue
from rest_framework.exceptions import APIException, NotFound, Throttled
from rest_framework.request import Request
from rest_framework.response import Response

from sagas import breaker, bulk, engine
from sagas.api import access, bell, schema
from sagas.api.answers import Answer
from sagas.api.preferences import idempotency_key
from sagas.api.requests import (
    ARGUMENTS,
    MAX_LIMIT,
    InterventionBody,
    Reason,
    RequestBody,
    SagaType,
    intervention_body,
    validated,
)
from sagas.api.views import Endpoint, rendered
from sagas.api.waiting import release_connection
from sagas.conf import conf
from sagas.definition import registry
from sagas.errors import InvalidInput, UnknownSagaType
from sagas.interventions import VERBS
from sagas.models import TypePause
from sagas.state import Status

log = structlog.get_logger(__name__)

AT_ONCE = 2
# A run holds a thread of the server for as long as its pace asks for; two leave enough to the others.
_places = BoundedSemaphore(AT_ONCE)


def known_verb(name: str) -> str:
    """Refuse what is not a verb, naming those there are."""
    if name not in VERBS:
        raise ValueError(f"unknown verb; known: {', '.join(VERBS)}")
    return name


VerbName = Annotated[str, AfterValidator(known_verb), Field(json_schema_extra={"enum": list(VERBS)})]


# --- Bulk ---------------------------------------------------------------------------------------------


class BulkFilter(RequestBody):
    """Which sagas: those with this status, of this type."""

    status: Status | None = None
    type: SagaType = None


class BulkBody(RequestBody):
    """A verb for many sagas: those of `ids`, or the first `limit` that fit `filter`.

    Without `"dry_run": false` it only says what would happen. Arguments of the verb stand beside.
    """

    verb: VerbName
    ids: Annotated[tuple[UUID, ...], Field(max_length=MAX_LIMIT)] = ()
    filter: BulkFilter = BulkFilter()
    reason: Reason
    dry_run: Annotated[bool, Field(strict=True)] = True
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = 100
    per_second: Annotated[float, Field(ge=10, le=200)] = 50
    step: str | None = None
    data: JsonValue = None
    undo: bool | None = None
    outcome: str | None = None
    deadline: AwareDatetime | None = None


class BulkItemAnswer(Answer):
    """One saga: `status` is what it has now, or would have; empty if it refused, or would stay as it is.

    `detail` says why it refuses or stays, and of a dry run what would be undone or run, in that order.
    """

    id: UUID
    became: bulk.Became
    status: str
    detail: str


class BulkAnswer(Answer):
    """What became of each, or would. Repeating under the `request_id` goes on with the same sagas."""

    verb: str
    dry_run: bool
    request_id: str | None
    counts: dict[bulk.Became, int]
    results: list[BulkItemAnswer]


@extend_schema_view(
    post=extend_schema(
        operation_id="intervene_in_bulk",
        tags=["operating"],
        request=BulkBody,
        examples=schema.example(
            {
                "verb": "compensate",
                "filter": {"status": "parked", "type": "sales_saga"},
                "reason": "recall",
                "limit": 100,
            }
        ),
        parameters=[schema.IDEMPOTENCY_KEY],
        responses={200: BulkAnswer, **schema.problems(*schema.OF_BODIES, 403, 422)},
    )
)
class BulkView(Endpoint):
    """One verb on many sagas."""

    def post(self, request: Request) -> Response:
        """Say what would happen to each, or do it at a bounded pace."""
        access.require(request.user, access.SEE)
        body = validated(BulkBody, request.data)
        access.require(request.user, f"sagas.{VERBS[body.verb].permission}")
        selection, order = selected(body), ordered(body, request.user.get_username())
        if body.dry_run:
            return rendered(
                answered(body, None, list(bulk.foretell(selection.find(), body.verb, order.wish)))
            )
        if not _places.acquire(blocking=False):
            raise Throttled(wait=5, detail=f"{AT_ONCE} of these run already; try again when one has ended.")
        try:
            request_id = scoped(request)
            ids = bulk.settled(order, selection, request_id)
            done = bulk.carry_out(
                order, ids, request_id, ring=bell.ring, per_second=body.per_second, pause=pause
            )
            return rendered(answered(body, request_id, list(done)))
        finally:
            _places.release()


def selected(body: BulkBody) -> bulk.Selection:
    """Which sagas the body speaks of.

    Raises:
        InvalidInput: it names none, or does so twice.
    """
    wanted = body.filter
    if bool(body.ids) == bool(wanted.status or wanted.type):
        message = "Give `ids`, or a `filter` with a status or a type, and not both"
        raise InvalidInput([{"field": "ids", "message": message}])
    return bulk.Selection(body.ids, wanted.status or "", wanted.type or "", body.limit)


def ordered(body: BulkBody, actor: str) -> bulk.Order:
    """The verb with its arguments, checked as on the verb's own endpoint."""
    given = {name: value for name in ARGUMENTS if (value := getattr(body, name)) is not None}
    asked = validated(intervention_body(VERBS[body.verb]), {"reason": body.reason, **given}).model_dump()
    return bulk.Order(body.verb, actor, asked.pop("reason"), bulk.wish_of(body.verb, asked))


def answered(body: BulkBody, request_id: str | None, items: list[bulk.Item]) -> BulkAnswer:
    """The answer of a bulk."""
    return BulkAnswer(
        verb=body.verb,
        dry_run=body.dry_run,
        request_id=request_id,
        counts={kind: sum(item.became is kind for item in items) for kind in bulk.Became},
        results=[BulkItemAnswer(id=i.id, became=i.became, status=i.status, detail=i.detail) for i in items],
    )


def scoped(request: Request) -> str:
    """The caller's key as the audit keeps it, or one of its own for every request."""
    key = idempotency_key(request.headers) or str(uuid4())
    return f"bulk:{hashlib.sha256(f'{request.user.pk}:{key}'.encode()).hexdigest()}"


def pause(seconds: float) -> None:
    """Wait without keeping a pooled connection from others."""
    release_connection()
    time.sleep(seconds)


# --- Circuits -----------------------------------------------------------------------------------------


class CircuitAnswer(Answer):
    """The circuit of one participant: closed, open, half_open, or unknown while Redis is away."""

    participant: str
    state: str
    failures: int | None
    open_for_seconds: float | None


class CircuitsAnswer(Answer):
    """Every participant's circuit."""

    results: list[CircuitAnswer]


class CircuitsAway(APIException):
    """Redis, which keeps the circuits, does not answer."""

    status_code = 503
    default_detail = "The shared state of the circuits cannot be reached; workers decide locally."
    default_code = "circuits-unavailable"


def circuit_answer(name: str, shown: dict[str, Any]) -> CircuitAnswer:
    """One circuit as it is answered."""
    return CircuitAnswer(
        participant=name,
        state=str(shown["state"]),
        failures=shown.get("failures"),
        open_for_seconds=shown.get("open_for_seconds"),
    )


class CircuitsView(Endpoint):
    """The circuit breakers."""

    @extend_schema(
        operation_id="list_circuits",
        tags=["operating"],
        responses={200: CircuitsAnswer, **schema.problems(403)},
    )
    def get(self, request: Request) -> Response:
        """Each participant's circuit breaker."""
        access.require(request.user, access.SEE)
        try:
            shown = breaker.inspect()
        except redis.RedisError:
            raise CircuitsAway from None
        return rendered(CircuitsAnswer(results=[circuit_answer(name, one) for name, one in shown.items()]))


class CloseCircuitView(Endpoint):
    """One circuit, to be closed by hand."""

    @extend_schema(
        operation_id="close_circuit",
        tags=["operating"],
        request=InterventionBody,
        examples=schema.example({"reason": "it is back"}),
        parameters=[OpenApiParameter("name", OpenApiTypes.STR, OpenApiParameter.PATH)],
        responses={200: CircuitAnswer, **schema.problems(*schema.OF_BODIES, 403, 404)},
    )
    def post(self, request: Request, name: str) -> Response:
        """Forget a participant's failures; calls flow at once."""
        access.require(request.user, access.STEER)
        reason = validated(InterventionBody, request.data).reason
        if name not in conf().participants:
            raise NotFound(f"There is no participant {name!r}.")
        try:
            engine.close_circuit(name, actor=request.user.get_username(), reason=reason)
            shown = breaker.inspect()[name]
        except redis.RedisError:
            raise CircuitsAway from None
        return rendered(circuit_answer(name, shown))


# --- Pauses of a type -----------------------------------------------------------------------------------


class TypePauseAnswer(Answer):
    """Whether a type is paused; who did it, why and when are empty if it is not."""

    type: str
    paused: bool
    actor: str
    reason: str
    at: AwareDatetime | None


class TypePauseView(Endpoint):
    """A whole type, to be paused or resumed."""

    pauses: bool

    def post(self, request: Request, saga_type: str) -> Response:
        """Pause: nothing more is claimed, sagas are still accepted. Resume: they go on."""
        access.require(request.user, access.STEER)
        reason = validated(InterventionBody, request.data).reason
        actor = request.user.get_username()
        try:
            registry.latest(saga_type)
            if self.pauses:
                engine.pause_type(saga_type, actor=actor, reason=reason)
            else:
                engine.resume_type(saga_type, actor=actor, reason=reason)
        except UnknownSagaType as error:
            raise NotFound(str(error)) from None
        log.warning("type paused" if self.pauses else "type resumed", type=saga_type, actor=actor)
        return rendered(type_pause(saga_type))


def type_pause(saga_type: str) -> TypePauseAnswer:
    """The pause of a type as it stands."""
    row = TypePause.objects.filter(type=saga_type).first()
    if row is None:
        return TypePauseAnswer(type=saga_type, paused=False, actor="", reason="", at=None)
    return TypePauseAnswer(type=saga_type, paused=True, actor=row.actor, reason=row.reason, at=row.at)


def steering_types(name: Literal["pause", "resume"]) -> type[TypePauseView]:
    """The view that pauses, or that resumes, a type."""
    view = type(f"{name.title()}TypeView", (TypePauseView,), {"pauses": name == "pause"})
    described: type[TypePauseView] = extend_schema_view(
        post=extend_schema(
            operation_id=f"{name}_type",
            tags=["operating"],
            request=InterventionBody,
            examples=schema.example({"reason": "stocktaking"}),
            responses={200: TypePauseAnswer, **schema.problems(*schema.OF_BODIES, 403, 404)},
        )
    )(view)
    return described
