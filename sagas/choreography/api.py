"""The endpoints of the choreography: start a stream, list events, replay one stream, read the read models."""

from __future__ import annotations

import time
from datetime import date, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from django.http import Http404
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema, extend_schema_view
from pydantic import AfterValidator, Field, JsonValue, create_model
from rest_framework.request import Request
from rest_framework.response import Response

from sagas.api import access, schema
from sagas.api.answers import Answer
from sagas.api.preferences import idempotency_key
from sagas.api.requests import RequestBody, validated
from sagas.api.views import Endpoint, rendered
from sagas.choreography import metrics, store
from sagas.choreography.bus import bell
from sagas.choreography.events import Event, cloudevent, fold, requested_id
from sagas.choreography.models import OrdersByClient, RevenueByStoreDay, Stream
from sagas.choreography.topics import Topic, registry

MAX_EVENTS = 500


def known_type(name: str) -> str:
    """The name of a type of events that some topic has."""
    if not any(name in topic.types for topic in registry.topics.values()):
        raise ValueError("no topic has events of this type")
    return name


class EventsQuery(RequestBody):
    """Which events to list; `after` goes on behind a position."""

    type: Annotated[str, AfterValidator(known_type)] | None = None
    after: Annotated[int, Field(ge=0, le=2**62)] = 0
    limit: Annotated[int, Field(ge=1, le=MAX_EVENTS)] = 100


class EventsAnswer(Answer):
    """Events in the order of the store; `next` is the `after` of the following page, if there may be one."""

    stream: str
    count: int
    next: int | None
    results: list[dict[str, JsonValue]]


class StateAnswer(Answer):
    """What a stream has come to."""

    status: str
    version: int
    started_at: datetime
    updated_at: datetime
    data: dict[str, JsonValue]


class ReplayAnswer(Answer):
    """A stream told from the store, and the state that its events fold to."""

    id: UUID
    topic: str
    state: StateAnswer
    events: list[dict[str, JsonValue]]
    duration_ms: float


class OrdersByClientAnswer(Answer):
    """What a client has ordered."""

    client_id: int
    total_orders: int
    last_order_id: int
    last_checkout_id: UUID
    last_update_ts: datetime


class RevenueAnswer(Answer):
    """One day of one store, in one currency."""

    day: date
    currency: str
    orders: int
    revenue: Decimal


class StoreRevenueAnswer(Answer):
    """The days of a store, newest first, a year at most."""

    store_id: int
    results: list[RevenueAnswer]


# --- Starting -----------------------------------------------------------------------------------------


def starting(topic_name: str, *in_path: str) -> type[Endpoint]:
    """The view that begins a stream of a topic; these fields of its input come from the path."""
    topic = registry.topics[topic_name]
    name = kind_of(topic).title()
    fields: dict[str, Any] = {
        field: (info.annotation, info)
        for field, info in topic.Input.model_fields.items()
        if field not in in_path
    }
    Body = create_model(f"{name}ChoreographyBody", __base__=RequestBody, **fields)
    Begun = create_model(
        f"{name}ChoreographyBegun",
        __base__=Answer,
        **{topic.id_field: (UUID, ...), "status": (str, ...)},  # type: ignore[call-overload]  # names made here
    )
    described = extend_schema(
        operation_id=f"start_{kind_of(topic)}_choreography",
        tags=["choreography"],
        description="Accepted at once; follow it at Location.",
        request=Body,
        examples=examples_of(topic, in_path),
        parameters=[schema.IDEMPOTENCY_KEY],
        responses={202: Begun, **schema.problems(*schema.OF_BODIES, 403, 422)},
    )

    class StartView(Endpoint):
        """Begins a stream."""

        def post(self, request: Request, **path: Any) -> Response:
            """Begin a stream, whose end the events will tell."""
            access.require(request.user, access.START)
            body = validated(Body, request.data)
            data = validated(topic.Input, {**body.model_dump(mode="json"), **path})
            begun = store.begin(
                topic,
                data.model_dump(mode="json"),
                owner_id=request.user.pk,
                correlation_id=str(request.META.get("sagas.correlation_id") or ""),
                stream=stream_of(request),
            )
            bell().ring()
            location = reverse("replay", args=[kind_of(topic), begun.stream])
            answer = Begun(**{topic.id_field: begun.stream, "status": topic.statuses[topic.first]})
            return rendered(answer, HTTPStatus.ACCEPTED, {"Location": location})

    return extend_schema_view(post=described)(StartView)


def examples_of(topic: Topic, in_path: tuple[str, ...]) -> list[OpenApiExample]:
    """The example that the topic's input declares, without what its path says."""
    declared = topic.Input.model_json_schema().get("examples", [])
    bodies = [{name: one[name] for name in one if name not in in_path} for one in declared[:1]]
    return [example for body in bodies for example in schema.example(body)]


def stream_of(request: Request) -> UUID | None:
    """The id that belongs to the caller's idempotency key; None if they gave none."""
    key = idempotency_key(request.headers)
    return None if key is None else requested_id(request.user.pk, request.path, key)


def kind_of(topic: Topic) -> str:
    """What the topic is about: `checkout` of `ecommerce.checkout.events`."""
    return topic.name.split(".")[-2]


# --- The store ----------------------------------------------------------------------------------------


class EventsView(Endpoint):
    """Events of a topic, or of one stream."""

    @extend_schema(
        operation_id="list_events",
        tags=["choreography"],
        parameters=[
            OpenApiParameter(
                "stream", OpenApiTypes.STR, OpenApiParameter.PATH, description="A topic's name, or an id"
            ),
            OpenApiParameter("type", OpenApiTypes.STR),
            OpenApiParameter("after", {"type": "integer", "minimum": 0, "default": 0}),
            OpenApiParameter(
                "limit", {"type": "integer", "minimum": 1, "maximum": MAX_EVENTS, "default": 100}
            ),
        ],
        responses={200: EventsAnswer, **schema.problems(400, 403, 404)},
    )
    def get(self, request: Request, stream: str) -> Response:
        """List events as CloudEvents, oldest first."""
        access.require(request.user, access.SEE)
        given = {name: value for name, value in request.query_params.items() if value != ""}
        query = validated(EventsQuery, given)
        if stream in registry.topics:
            events = store.listed(stream, query.type, query.after, query.limit)
        else:
            history = store.history(as_id(stream))
            if not history:
                raise Http404
            events = [
                event
                for event in history
                if query.type in (None, event.type) and event.position > query.after
            ][: query.limit]
        following = events[-1].position if len(events) == query.limit else None
        found = [cloudevent(event) for event in events]
        return rendered(EventsAnswer(stream=stream, count=len(found), next=following, results=found))


class ReplayView(Endpoint):
    """One stream from its beginning."""

    @extend_schema(
        operation_id="replay_stream",
        tags=["choreography"],
        responses={200: ReplayAnswer, **schema.problems(404)},
    )
    def get(self, request: Request, kind: str, stream: UUID) -> Response:
        """Tell a stream's history, and fold it to its state."""
        began = time.perf_counter()
        if not access.may(request.user, access.SEE):
            owned = Stream.objects.filter(id=stream, owner_id=request.user.pk)
            if not owned.exists():
                raise Http404
        events = store.history(stream)
        topic = registry.topics.get(events[0].topic) if events else None
        if topic is None or kind_of(topic) != kind:
            raise Http404
        state = state_of(topic, events)
        seconds = time.perf_counter() - began
        metrics.REPLAY.observe(seconds)
        found = [cloudevent(event) for event in events]
        return rendered(
            ReplayAnswer(
                id=stream,
                topic=topic.name,
                state=state,
                events=found,
                duration_ms=round(seconds * 1000, 3),
            )
        )


def state_of(topic: Topic, events: list[Event]) -> StateAnswer:
    """The state that the events of one stream fold to."""
    folded = fold(events, topic.statuses, topic.ends)
    return StateAnswer(
        status=folded.status,
        version=folded.version,
        started_at=folded.started_at,
        updated_at=folded.updated_at,
        data=dict(folded.data),
    )


# --- Read models --------------------------------------------------------------------------------------


class OrdersByClientView(Endpoint):
    """The read model of orders by client."""

    @extend_schema(
        operation_id="orders_by_client",
        tags=["choreography"],
        responses={200: OrdersByClientAnswer, **schema.problems(403, 404)},
    )
    def get(self, request: Request, client_id: int) -> Response:
        """What a client has ordered, and the last order; 404 for one who has ordered nothing."""
        access.require(request.user, access.SEE)
        row = OrdersByClient.live.filter(client_id=client_id).first() if client_id < 2**63 else None
        if row is None:
            raise Http404
        names = OrdersByClientAnswer.model_fields
        return rendered(OrdersByClientAnswer(**{name: getattr(row, name) for name in names}))


class RevenueView(Endpoint):
    """The read model of revenue."""

    @extend_schema(
        operation_id="revenue_by_store_day",
        tags=["choreography"],
        responses={200: StoreRevenueAnswer, **schema.problems(403)},
    )
    def get(self, request: Request, store_id: int) -> Response:
        """Orders and revenue of a store by day (UTC) and currency."""
        access.require(request.user, access.SEE)
        rows = RevenueByStoreDay.live.none()
        if store_id < 2**63:
            rows = RevenueByStoreDay.live.filter(store_id=store_id).order_by("-day", "currency")
        names = RevenueAnswer.model_fields
        found = [RevenueAnswer(**{name: getattr(row, name) for name in names}) for row in rows[:366]]
        return rendered(StoreRevenueAnswer(store_id=store_id, results=found))


def as_id(text: str) -> UUID:
    """The id of a stream.

    Raises:
        Http404: it is none, so there is no such stream.
    """
    try:
        return UUID(text)
    except ValueError:
        raise Http404 from None
