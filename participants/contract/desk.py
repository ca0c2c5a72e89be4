"""The HTTP face of what a participant offers beside sagas."""

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus

from django.core.exceptions import RequestDataTooBig
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from participants.contract import barrier, links
from participants.contract.credentials import is_accepted
from participants.contract.offers import Missing, Offer, Offers
from participants.contract.outcomes import Answer, Refused, error, refusal, success
from participants.contract.requests import KEY, BadCall, check_length, fingerprint
from participants.contract.service import Action, Call
from participants.contract.views import FAILED, UNAUTHORIZED, rendered

log = logging.getLogger("participants")
NOTHING_HERE = error(HTTPStatus.NOT_FOUND, "not_found", "Nothing is served here.")
BAD_KEY = error(
    HTTPStatus.BAD_REQUEST, "bad_header", "Idempotency-Key has 1 to 200 visible ASCII characters."
)


def serve_offer(request: HttpRequest, offers: Offers, path: str) -> HttpResponse:
    """One request to `/<participant>/api/<path>`."""
    if not is_accepted(request, offers.name):
        return rendered(UNAUTHORIZED)
    here, arguments = offers.at(path)
    if not here:
        return rendered(NOTHING_HERE)
    offer = next((offer for offer in here if offer.method == request.method), None)
    if offer is None:
        allowed = ", ".join(offer.method for offer in here)
        return rendered(error(HTTPStatus.METHOD_NOT_ALLOWED, "method", "Use another method.", Allow=allowed))
    try:
        call = read(request, offer, arguments)
    except BadCall as bad:
        return rendered(bad.answer)
    except RequestDataTooBig:
        return rendered(error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", "The body is too large."))
    if call.key and not KEY.fullmatch(call.key):
        return rendered(BAD_KEY)
    return rendered(answered(offers.name, call, lambda: attempt(offers.name, offer, call)))


def read(request: HttpRequest, offer: Offer, arguments: Mapping[str, str]) -> Call:
    """The request as a call; its key is optional, and of a read ignored.

    Raises BadCall for one of unknown length.
    """
    check_length(request)
    name = f"{offer.method} {offer.path}"
    return Call(
        operation=name,
        now=timezone.now(),
        key="" if offer.method == "GET" else request.headers.get("Idempotency-Key", ""),
        correlation_id=request.headers.get("X-Correlation-Id", "")[:128],
        fingerprint=fingerprint(request, name, request.path),
        body=b"" if offer.method == "GET" else request.body,
        parameters={**{key: str(value) for key, value in request.GET.items()}, **arguments},
    )


def attempt(participant: str, offer: Offer, call: Call) -> Answer:
    """Read; or change, in one transaction and once per key if there is one."""
    if call.key:
        action = Action(
            name=call.operation,
            body=offer.body,
            effect=offer.effect,
            success_status=offer.success_status,
        )
        return barrier.perform(participant, action, call)
    try:
        with (
            barrier.connected(participant),
            transaction.atomic(using=participant),
            barrier.unprocessed(participant),
        ):
            outcome = barrier.run(offer.body, offer.effect, call)
    except Refused as refused:
        outcome = refused
    return refusal(outcome) if isinstance(outcome, Refused) else success(outcome, offer.success_status)


def answered(participant: str, call: Call, attempt: Callable[[], Answer]) -> Answer:
    """The answer; once more on a fresh connection if the kept one was dead."""
    for _ in range(2):
        try:
            return attempt()
        except Missing as missing:
            return error(HTTPStatus.NOT_FOUND, missing.code, missing.reason)
        except barrier.NotProcessed as failure:
            if not failure.lost:
                break
            links.renew(participant)
        except Exception:
            log.exception("request failed", extra={"participant": participant, "operation": call.operation})
            return FAILED
    return error(
        HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "Nothing was done; try again.", Retry_After="1"
    )
