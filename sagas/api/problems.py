"""Errors as RFC 9457 problem details, whoever raises them; nothing of the inside leaks out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import structlog
from django.core.exceptions import PermissionDenied
from django.core.signals import got_request_exception
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from sagas.errors import (
    Contended,
    IdempotencyConflict,
    InvalidInput,
    LockHeld,
    NotAllowed,
    SagaNotFound,
    UnknownSagaType,
)

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
FAILED = "The server failed at this request. Its log has more under the correlation id."
DATABASE_AWAY = "The database does not answer. Nothing was changed that is not stored; try again."


class Kind(NamedTuple):
    """What a class of errors is for the caller: a status, a name that programs can rely on, and headers."""

    status: int
    name: str
    headers: Mapping[str, str] = {}


KINDS: tuple[tuple[type[Exception], Kind], ...] = (
    (InvalidInput, Kind(400, "invalid-input")),
    (PermissionDenied, Kind(403, "permission-denied")),
    (SagaNotFound, Kind(404, "not-found")),
    (Http404, Kind(404, "not-found")),
    (NotAllowed, Kind(409, "not-allowed-in-this-state")),
    (LockHeld, Kind(409, "locked-by-another-saga")),
    (IdempotencyConflict, Kind(422, "idempotency-key-reused")),
    (UnknownSagaType, Kind(503, "no-code-for-this-saga")),
    (Contended, Kind(503, "contended", {"Retry-After": "1"})),
    (OperationalError, Kind(503, "database-unavailable", {"Retry-After": "5"})),
    (InterfaceError, Kind(503, "database-unavailable", {"Retry-After": "5"})),
)
NAMES = {
    400: "malformed-request",
    401: "not-authenticated",
    403: "permission-denied",
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    411: "length-required",
    413: "too-large",
    415: "unsupported-media-type",
    429: "too-many-requests",
}


def problem(
    request: HttpRequest,
    status: int,
    name: str,
    detail: str,
    *,
    errors: Sequence[Mapping[str, Any]] = (),
    **more: Any,
) -> dict[str, Any]:
    """The members of one problem; `errors` has an entry `{field, message}` for every wrong field."""
    return {
        "type": f"urn:sagas:problem:{name}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": request.path,
        "correlation_id": request.META.get("sagas.correlation_id"),
        "errors": [{"field": error["field"], "message": error["message"]} for error in errors],
        **more,
    }


def handler(error: Exception, context: Mapping[str, Any]) -> Response:
    """REST framework's exception handler: every error of a view becomes a problem."""
    request: HttpRequest = context["request"]
    set_rollback()
    status, name, detail, headers = described(error)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request failed", path=request.path, exc_info=error)
        got_request_exception.send(sender=None, request=request)
    elif status == HTTPStatus.SERVICE_UNAVAILABLE:
        log.warning("request could not be served", path=request.path, error=str(error))
    errors = error.errors if isinstance(error, InvalidInput) else ()
    body = problem(request, status, name, detail, errors=errors)
    return Response(body, status=status, headers=dict(headers), content_type=CONTENT_TYPE)


def described(error: Exception) -> tuple[int, str, str, Mapping[str, str]]:
    """Status, name, detail and headers of an error; what is not known is a failure of the server."""
    if isinstance(error, exceptions.APIException):
        status = error.status_code
        return status, NAMES.get(status, "error"), str(error.detail), headers_of(error)
    for kind_of_error, kind in KINDS:
        if isinstance(error, kind_of_error):
            return kind.status, kind.name, detail_of(error, kind), kind.headers
    return 500, "server-error", FAILED, {}


def detail_of(error: Exception, kind: Kind) -> str:
    """The sentence for the caller; a database error's own text stays inside."""
    if kind.name == "database-unavailable":
        return DATABASE_AWAY
    if isinstance(error, InvalidInput):
        return f"{len(error.errors)} field(s) do not fit; `errors` names each."
    if isinstance(error, Http404):
        return "There is nothing here."
    return str(error) or HTTPStatus(kind.status).phrase


def headers_of(error: exceptions.APIException) -> dict[str, str]:
    """The headers that an error of REST framework asks for."""
    headers: dict[str, str] = {}
    challenge = getattr(error, "auth_header", None)
    if challenge:
        headers["WWW-Authenticate"] = challenge
    wait = getattr(error, "wait", None)
    if wait is not None:
        headers["Retry-After"] = str(math.ceil(wait))
    return headers


def plain_response(request: HttpRequest, status: int, name: str, detail: str, **more: Any) -> JsonResponse:
    """A problem as an answer of Django itself, outside REST framework."""
    return JsonResponse(
        problem(request, status, name, detail, **more), status=status, content_type=CONTENT_TYPE
    )


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's `handler404`: a page for people in the admin, a problem for programs."""
    if request.path.startswith("/admin/"):
        return defaults.page_not_found(request, exception)
    return plain_response(request, 404, "not-found", "There is nothing here.")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's `handler400`: a host that is not served, a header that is not one."""
    return plain_response(request, 400, "malformed-request", "The request is malformed.")


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's `handler500`: what no view caught."""
    if request.path.startswith("/admin/"):
        return defaults.server_error(request)
    return plain_response(request, 500, "server-error", FAILED)
