"""Reads a call from an HTTP request: its headers, its key and the age of the key."""

import re
from datetime import datetime, timedelta
from hashlib import sha256
from http import HTTPStatus

from django.http import HttpRequest

from participants.contract.configuration import retention
from participants.contract.outcomes import Answer, error
from participants.contract.service import STATUS_QUERY, Action, AnyOperation, Call, Compensation, Query

KEY = re.compile(r"[\x21-\x7e]{1,200}")
KEY_MARGIN = timedelta(days=1)
KEY_HEADERS = ("X-Key-Issued-At", "X-Compensates-Issued-At")


class BadCall(Exception):
    """The request cannot be taken as a call; carries the answer that says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body.decode())
        self.answer = answer


def read_call(request: HttpRequest, operation: AnyOperation, argument: str, now: datetime) -> Call:
    """The call that the request makes; raises BadCall for one without a usable key, or of unknown length."""
    check_length(request)
    headers = request.headers
    parameters = {name: str(value) for name, value in request.GET.items()}
    if argument:
        parameters[operation.argument] = argument
    call = Call(
        operation=operation.name,
        now=now,
        key="" if isinstance(operation, Query) else headers.get("Idempotency-Key", ""),
        compensates=headers.get("X-Compensates", "") if isinstance(operation, Compensation) else "",
        saga_id=headers.get("X-Saga-Id", "")[:64],
        step=headers.get("X-Saga-Step", "")[:64],
        correlation_id=headers.get("X-Correlation-Id", "")[:128],
        fingerprint=fingerprint(request, operation.name, argument),
        body=request.body,
        parameters=parameters,
    )
    if not isinstance(operation, Query):
        check_keys(operation, call)
        check_age(request, now)
    return call


def read_status_call(request: HttpRequest, key: str, now: datetime) -> Call:
    """The status query as a call, so that faults can be switched on for it too."""
    return Call(operation=STATUS_QUERY, now=now, key=key, saga_id=request.headers.get("X-Saga-Id", ""))


def fingerprint(request: HttpRequest, operation: str, argument: str) -> str:
    """A digest of all that the request asks for, byte by byte as it was sent."""
    query = request.META.get("QUERY_STRING", "")
    head = "\0".join((request.method or "", operation, argument, query)).encode()
    return sha256(head + b"\0" + request.body).hexdigest()


def check_length(request: HttpRequest) -> None:
    """Raises BadCall for a body sent in chunks: without a length it would be taken for none at all."""
    if "Transfer-Encoding" in request.headers:
        raise BadCall(
            error(
                HTTPStatus.LENGTH_REQUIRED,
                "length_required",
                "Send the body at once, with a Content-Length: it came in chunks, and was not read.",
            )
        )


def check_keys(operation: Action | Compensation, call: Call) -> None:
    """Raises BadCall where a key that the operation needs is missing or unusable."""
    if not call.key and isinstance(operation, Action) and operation.key_optional:
        return
    required = {"Idempotency-Key": call.key}
    if isinstance(operation, Compensation):
        required["X-Compensates"] = call.compensates
    for header, key in required.items():
        if not KEY.fullmatch(key):
            raise bad_request(header, "is required: 1 to 200 visible ASCII characters")
    if call.key == call.compensates:
        raise bad_request("X-Compensates", "names another key than the compensation's own")


def check_age(request: HttpRequest, now: datetime) -> None:
    """Raises BadCall for a key so old that its record may have been deleted."""
    oldest = now - (retention() - KEY_MARGIN)
    for header in KEY_HEADERS:
        text = request.headers.get(header)
        if text is None:
            continue
        try:
            issued = datetime.fromisoformat(text)
        except ValueError:
            issued = None
        if issued is None or issued.tzinfo is None:
            raise bad_request(header, "must be an ISO 8601 time with an offset")
        if issued < oldest:
            raise BadCall(error(HTTPStatus.GONE, "key_expired", f"{header} is past the retention of keys."))


def bad_request(header: str, what: str) -> BadCall:
    """A 400 that names the header."""
    return BadCall(error(HTTPStatus.BAD_REQUEST, "bad_header", f"{header} {what}."))
