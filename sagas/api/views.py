"""The endpoints: each parses, calls one verb of the engine, rings, and renders."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from http import HTTPStatus
from typing import Any
from uuid import UUID

from django.http import HttpResponse, HttpResponseNotModified
from django.http.response import HttpResponseBase
from django.urls import reverse
from pydantic import BaseModel
from rest_framework.exceptions import NotFound
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from sagas import engine
from sagas.api import access, bell, problems, revisions, schema
from sagas.api.answers import (
    DefinitionsAnswer,
    GraphAnswer,
    compensations_answer,
    definition_answer,
    saga_answer,
)
from sagas.api.bodies import BoundedJSONParser, LengthRequired
from sagas.api.listing import ACTIVE, page
from sagas.api.preferences import Preference, idempotency_key, preference
from sagas.api.requests import StartBody, validated, validated_query
from sagas.api.revisions import etag
from sagas.api.waiting import at_rest, until_at_rest
from sagas.definition import SagaDefinition, registry
from sagas.errors import InvalidInput, UnknownSagaType
from sagas.graph import mermaid
from sagas.state import SagaState


class Endpoint(APIView):
    """Base of all endpoints, whatever the project's own defaults are: JSON, problems, no strangers.

    How callers show who they are is the project's own affair (`DEFAULT_AUTHENTICATION_CLASSES`).
    """

    permission_classes: tuple[type[BasePermission], ...] = (IsAuthenticated,)
    parser_classes = (BoundedJSONParser,)
    renderer_classes: tuple[type[BaseRenderer], ...] = (JSONRenderer,)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse a body of unknown length, which would be read as none at all (PEP 3333)."""
        super().initial(request, *args, **kwargs)
        if request.headers.get("Transfer-Encoding"):
            raise LengthRequired

    def get_exception_handler(self) -> Callable[..., Any]:
        """Every error becomes a problem."""
        return problems.handler

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Answers are for their caller only, and nothing in them is ever run or framed."""
        done = super().finalize_response(request, response, *args, **kwargs)
        done.headers.setdefault("Cache-Control", "private, no-cache")
        done.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        return done


def rendered(
    answer: BaseModel, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> Response:
    """An answer as JSON."""
    return Response(answer.model_dump(mode="json"), status=status, headers=headers)


def as_json(answer: str, tag: str) -> HttpResponseBase:
    """An answer that is JSON already, under its ETag."""
    return HttpResponse(answer, content_type=JSONRenderer.media_type, headers={"ETag": tag})


def unchanged(tag: str) -> HttpResponseBase:
    """What the caller has under this ETag still holds."""
    return HttpResponseNotModified(headers={"ETag": tag})


def saga_response(state: SagaState, preferred: Preference) -> Response:
    """A saga that something was just done to: 200 if it is at rest, or comes to rest in time; else 202."""
    state, waited = until_at_rest(state, preferred.seconds)
    headers = {"Location": reverse("saga", args=[state.id]), "ETag": etag(state)}
    if waited and preferred.said is not None:
        headers["Preference-Applied"] = preferred.said
    settled = at_rest(state) and state.deadline_at is not None
    status = HTTPStatus.OK if settled else HTTPStatus.ACCEPTED
    return rendered(saga_answer(state, state.steps), status, headers)


def start(request: Request, body: StartBody, within: str, preferred: Preference) -> Response:
    """Start one saga; `within` is where its input stands in the request's body."""
    key = idempotency_key(request.headers)
    try:
        started = engine.start(
            body.type,
            body.data,
            idempotency_key=key,
            owner_id=request.user.pk,
            actor=request.user.get_username(),
            correlation_id=request.META.get("sagas.correlation_id"),
            execute=body.execute,
        )
    except UnknownSagaType as error:
        raise InvalidInput([{"field": "type", "message": str(error)}]) from None
    except InvalidInput as error:
        raise InvalidInput([{**e, "field": nested(within, e["field"])} for e in error.errors]) from None
    if not started.repeated:
        bell.ring(started.state, engine.due_positions(started.state))
    return saga_response(started.state, preferred)


def nested(within: str, field: str) -> str:
    """The path of a field of the input, whose root the engine calls `data`."""
    return field if not within or field == "data" else f"{within}.{field}"


class SagasView(Endpoint):
    """All sagas."""

    @schema.start
    def post(self, request: Request) -> Response:
        """Start a saga."""
        access.require(request.user, access.START)
        body = validated(StartBody, request.data)
        return start(request, body, "data", preference(request.headers.get("Prefer", "")))

    @schema.sagas
    def get(self, request: Request) -> Response:
        """List sagas, newest first."""
        access.require(request.user, access.SEE, access.START)
        query = validated_query(request.query_params)
        url = request.build_absolute_uri(request.path)
        return rendered(page(access.visible(request.user), query, url))


class ActiveSagasView(Endpoint):
    """Sagas that are not finished and not left to a person."""

    permissions: tuple[str, ...] = (access.SEE, access.START)

    @schema.active_sagas
    def get(self, request: Request) -> Response:
        """List active sagas, newest first."""
        access.require(request.user, *self.permissions)
        query = validated_query(request.query_params)
        url = request.build_absolute_uri(request.path)
        return rendered(page(access.visible(request.user).filter(status__in=ACTIVE), query, url))


class SagaView(Endpoint):
    """One saga."""

    @schema.saga
    def get(self, request: Request, saga_id: UUID) -> HttpResponseBase:
        """One saga with its steps."""
        found: revisions.Revised = revisions.revision(request, saga_id)
        if revisions.known(request, etag(found)):
            return unchanged(etag(found))
        answer = revisions.finished(found)
        if answer is None:
            found = state = engine.load(saga_id)
            answer = saga_answer(state, state.steps).model_dump_json()
            revisions.keep(state, answer)
        return as_json(answer, etag(found))


class CompensationsView(Endpoint):
    """The effects of one saga."""

    @schema.compensations
    def get(self, request: Request, saga_id: UUID) -> Response:
        """Each effect of a saga, and whether it is undone."""
        access.require_visible(request.user, saga_id)
        state = engine.load(saga_id)
        return rendered(compensations_answer(state, state.steps))


class DefinitionsView(Endpoint):
    """What can be started."""

    @schema.definitions
    def get(self, request: Request) -> HttpResponseBase:
        """Every installed type with its steps and the JSON schema of its input."""
        installed = tuple(registry.latest(saga_type) for saga_type in registry.types())
        answer, tag = definitions_document(installed, frozenset(engine.paused_types()))
        return unchanged(tag) if revisions.known(request, tag) else as_json(answer, tag)


@lru_cache(maxsize=4)
def definitions_document(installed: tuple[SagaDefinition, ...], paused: frozenset[str]) -> tuple[str, str]:
    """What is installed, as JSON, and its ETag; made once, since only new code and pauses change it."""
    known = [definition_answer(one, paused=one.type in paused) for one in installed]
    answer = DefinitionsAnswer(results=known).model_dump_json()
    return answer, f'"{blake2b(answer.encode(), digest_size=12).hexdigest()}"'


class DefinitionGraphView(Endpoint):
    """A type as a picture."""

    @schema.graph("graph_of_definition")
    def get(self, request: Request, saga_type: str) -> Response:
        """The steps of a type as a chart."""
        try:
            definition = registry.latest(saga_type)
        except UnknownSagaType as error:
            raise NotFound(str(error)) from None
        return rendered(GraphAnswer(mermaid=mermaid(definition)))


class SagaGraphView(Endpoint):
    """One saga as a picture."""

    @schema.graph("graph_of_saga", schema.ID)
    def get(self, request: Request, saga_id: UUID) -> Response:
        """The steps of a saga as a chart, marked by how far each is."""
        access.require_visible(request.user, saga_id)
        state = engine.load(saga_id)
        return rendered(GraphAnswer(mermaid=mermaid(registry.get(state.type, state.version), state)))


class NothingHereView(Endpoint):
    """Every other path: a problem, not a page."""

    schema = None
    authentication_classes = ()
    permission_classes = ()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """There is nothing here, whatever is asked for."""
        raise NotFound("There is nothing here.")
