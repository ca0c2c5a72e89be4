"""Misbehaviour on demand, for tests and demonstrations. Without PARTICIPANTS_FAULTS none of it runs.

A fault lies in the participant's own database, so that every process of it shows the same one,
and is counted by one guarded statement.
"""

import json
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Literal, cast

from django.apps import apps
from django.db import connections
from django.db.models import Manager
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from pydantic import BaseModel, ConfigDict, Field

from participants.contract.barrier import request_data
from participants.contract.models import Fault
from participants.contract.outcomes import Answer, Refused, error
from participants.contract.service import STATUS_QUERY, Call

Kind = Literal[
    "refuse",
    "error_before",
    "error_after",
    "hang_before",
    "hang_after",
    "reset_before",
    "reset_after",
    "cut",
    "drip",
    "unavailable",
    "too_early",
    "unauthorized",
    "not_found",
]

TAKE = """
UPDATE {table} SET remaining = remaining - 1
 WHERE id = (SELECT id FROM {table}
              WHERE (operation = %s OR (operation = '*' AND %s))
                AND (remaining IS NULL OR remaining > 0)
                AND %s::jsonb @> match
              ORDER BY id LIMIT 1 FOR UPDATE)
RETURNING kind, options::text
"""


class Options(BaseModel):
    """What a kind may be told: how long it lasts, and what a refusal says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: Annotated[float, Field(ge=0, le=600)] = 1.0
    code: Annotated[str, Field(min_length=1, max_length=64)] = "fault"
    reason: Annotated[str, Field(max_length=500)] = "A fault was switched on for this operation."
    status: Literal[409, 422] = 409


class NewFault(Options):
    """The body of `POST /faults`: one fault with its options beside it."""

    operation: Annotated[str, Field(min_length=1, max_length=64)]
    kind: Kind
    times: Annotated[int, Field(gt=0, le=1_000_000)] | None = 1
    match: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault that hits the present call."""

    kind: str
    options: Options

    @property
    def refusal(self) -> Refused | None:
        """What the operation is to answer in place of its effect, under its key."""
        if self.kind != "refuse":
            return None
        return Refused(self.options.code, self.options.reason, self.options.status)


def stored(service: str) -> Manager[Fault]:
    """The participant's own table of faults."""
    return cast(type[Fault], apps.get_model(service, "Fault"))._default_manager


def switch_on(service: str, fault: NewFault) -> Fault:
    """Store a fault; it hits from now on."""
    options = fault.model_dump(include=set(Options.model_fields))
    return stored(service).create(
        operation=fault.operation,
        kind=fault.kind,
        remaining=fault.times,
        match=fault.match,
        options=options,
    )


def switch_off_all(service: str) -> int:
    """Remove every fault of the participant; tells how many there were."""
    return stored(service).all().delete()[0]


def listed(service: str) -> list[dict[str, object]]:
    """The faults that are on, oldest first, those used up included."""
    fields = ("operation", "kind", "remaining", "match", "options")
    return list(stored(service).order_by("id").values(*fields))


def take(service: str, call: Call) -> Struck | None:
    """The oldest fault that matches this call, counted; None if it may go on undisturbed."""
    statement = TAKE.format(table=stored(service).model._meta.db_table)
    anything = call.operation != STATUS_QUERY
    with connections[service].cursor() as cursor:
        cursor.execute(statement, [call.operation, anything, json.dumps(subject(call))])
        row = cast(tuple[str, str] | None, cursor.fetchone())
    return None if row is None else Struck(row[0], Options.model_validate_json(row[1]))


def subject(call: Call) -> Mapping[str, object]:
    """What a fault's `match` is compared with: the request's fields, saga_id, saga_step and key."""
    try:
        data = request_data(call)
    except ValueError:
        data = {}
    known = {"saga_id": call.saga_id, "saga_step": call.step, "key": call.key}
    return {**(data if isinstance(data, dict) else {}), **known}


def before(request: HttpRequest, struck: Struck) -> HttpResponseBase | Answer | None:
    """The answer of a fault that spares the operation; None to let it run."""
    match struck.kind:
        case "error_before":
            return error(HTTPStatus.INTERNAL_SERVER_ERROR, "fault", "Failed before it was applied.")
        case "unavailable":
            return error(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "unavailable",
                "Try again later.",
                Retry_After=f"{struck.options.seconds:.0f}",
            )
        case "too_early":
            return error(HTTPStatus.TOO_EARLY, "in_progress", "Try again.", Retry_After="1")
        case "unauthorized":
            return error(HTTPStatus.UNAUTHORIZED, "unauthorized", "The credential is not accepted.")
        case "not_found":
            return error(HTTPStatus.NOT_FOUND, "unknown_operation", "There is no such operation.")
        case "reset_before":
            return reset(request)
        case "hang_before":
            time.sleep(struck.options.seconds)
    return None


def after(request: HttpRequest, struck: Struck, response: HttpResponse) -> HttpResponseBase:
    """What is sent in place of the answer of an operation that was applied."""
    match struck.kind:
        case "error_after":
            return HttpResponse(b"", status=HTTPStatus.INTERNAL_SERVER_ERROR)
        case "hang_after":
            time.sleep(struck.options.seconds)
        case "reset_after":
            return reset(request)
        case "cut":
            return streamed(response, lambda body: cut(request, body))
        case "drip":
            return streamed(response, lambda body: drip(body, struck.options.seconds))
    return response


def reset(request: HttpRequest) -> HttpResponseBase:
    """Ends the connection without an answer."""

    def nothing() -> Iterator[bytes]:
        hang_up(request)
        yield b""

    # gunicorn sends the head with the first chunk, and by then the connection is gone.
    return StreamingHttpResponse(nothing(), status=HTTPStatus.OK)


def streamed(response: HttpResponse, chunks: Callable[[bytes], Iterator[bytes]]) -> StreamingHttpResponse:
    """The same head as `response`, its length included, with the body sent in another manner."""
    twin = StreamingHttpResponse(chunks(response.content), status=response.status_code)
    twin["Content-Type"] = response["Content-Type"]
    twin["Content-Length"] = str(len(response.content))
    return twin


def cut(request: HttpRequest, body: bytes) -> Iterator[bytes]:
    """Half of the body, then the end of the connection."""
    yield body[: len(body) // 2]
    hang_up(request)


def drip(body: bytes, seconds: float) -> Iterator[bytes]:
    """The body byte by byte, over `seconds` in all."""
    for number in range(len(body)):
        time.sleep(seconds / len(body))
        yield body[number : number + 1]


def hang_up(request: HttpRequest) -> None:
    """Shut the connection down under the server, which then drops it."""
    connection = cast(socket.socket | None, request.META.get("gunicorn.socket"))
    if connection is None:
        raise ConnectionResetError("a fault ends this connection")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.shutdown(socket.SHUT_RDWR)
