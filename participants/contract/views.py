"""The HTTP face of a participant: plain views, JSON in and out."""

import logging
from http import HTTPStatus

from django.core.exceptions import RequestDataTooBig
from django.db import connections
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils import timezone
from pydantic import ValidationError

from participants.contract import barrier, faults, links
from participants.contract.configuration import faults_enabled
from participants.contract.credentials import is_accepted
from participants.contract.outcomes import Answer, Outcome, Refused, Result, encode, error, refusal, success
from participants.contract.requests import BadCall, read_call, read_status_call
from participants.contract.service import Action, AnyOperation, Call, Compensation, Service

log = logging.getLogger("participants")

UNAUTHORIZED = error(
    HTTPStatus.UNAUTHORIZED, "unauthorized", "The credential is not accepted.", WWW_Authenticate="Bearer"
)
FAILED = error(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "Failed; the outcome may be asked for.")
NO_SUCH_OPERATION = error(HTTPStatus.NOT_FOUND, "unknown_operation", "There is no such operation.")


def serve_operation(
    request: HttpRequest, service: Service, name: str, argument: str = ""
) -> HttpResponseBase:
    """One call of the operation `name`; `argument` is what follows it in the path."""
    if not is_accepted(request, service.name):
        return rendered(UNAUTHORIZED)
    operation = service.operations.get(name)
    if operation is None or bool(argument) != bool(operation.argument):
        return rendered(NO_SUCH_OPERATION)
    if request.method != operation.method:
        return rendered(
            error(HTTPStatus.METHOD_NOT_ALLOWED, "method", "Use another method.", Allow=operation.method)
        )
    try:
        call = read_call(request, operation, argument, timezone.now())
    except BadCall as bad:
        return rendered(bad.answer)
    except RequestDataTooBig:
        return rendered(error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", "The body is too large."))
    if faults_enabled():
        return serve_with_faults(request, service, operation, call)
    return rendered(answer_to(service, operation, call))


def accepting(request: HttpRequest, services: list[Service]) -> list[Service]:
    """Those of the services that accept the credential of the request."""
    return [service for service in services if is_accepted(request, service.name)]


def serve_with_faults(
    request: HttpRequest, service: Service, operation: AnyOperation, call: Call
) -> HttpResponseBase:
    """The same, with the fault that is switched on for this call, if any."""
    struck = faults.take(service.name, call)
    if struck is None:
        return rendered(answer_to(service, operation, call))
    links.give_back(service.name)  # a fault may last
    spared = faults.before(request, struck)
    if spared is not None:
        return rendered(spared) if isinstance(spared, Answer) else spared
    response = rendered(answer_to(service, operation, call, struck.refusal))
    links.give_back(service.name)
    return faults.after(request, struck, response)


def answer_to(service: Service, operation: AnyOperation, call: Call, forced: Refused | None = None) -> Answer:
    """Runs the operation; `forced` refuses in its place."""
    try:
        return attempt(service, operation, call, forced)
    except barrier.NotProcessed as failure:
        return answer_again(service, operation, call, forced, failure)
    except Exception:
        log.exception("operation failed", extra=fields(service, call))
        return FAILED


def answer_again(
    service: Service,
    operation: AnyOperation,
    call: Call,
    forced: Refused | None,
    failure: barrier.NotProcessed,
) -> Answer:
    """Once more on a fresh connection if the kept one was dead; else 503, for nothing took effect."""
    try:
        if failure.lost:
            links.renew(service.name)
            return attempt(service, operation, call, forced)
    except barrier.NotProcessed as again:
        failure = again
    except Exception:
        log.exception("operation failed", extra=fields(service, call))
        return FAILED
    log.warning("not processed", extra={**fields(service, call), "failure": str(failure)})
    return error(
        HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "Nothing was done; try again.", Retry_After="1"
    )


def attempt(service: Service, operation: AnyOperation, call: Call, forced: Refused | None) -> Answer:
    """Through the barrier if the call has a key, else as a question."""
    if isinstance(operation, Action | Compensation) and call.key:
        return barrier.perform(service.name, operation, call, forced)
    with barrier.unprocessed(service.name):
        try:
            outcome = forced if forced is not None else ask(operation, call)
        except Refused as refused:
            outcome = refused
    return refusal(outcome) if isinstance(outcome, Refused) else success(outcome)


def ask(operation: AnyOperation, call: Call) -> Outcome:
    """The answer of an operation that changes nothing."""
    if isinstance(operation, Compensation):
        raise TypeError("a compensation cannot be asked without a key")
    effect = operation.effect if isinstance(operation, Action) else operation.ask
    return barrier.run(operation.body, effect, call)


def serve_status(request: HttpRequest, services: list[Service], key: str) -> HttpResponseBase:
    """What became of a key, at the first of the services that knows it and accepts the credential."""
    services = accepting(request, services)
    if not services:
        return rendered(UNAUTHORIZED)
    if request.method != "GET":
        return rendered(error(HTTPStatus.METHOD_NOT_ALLOWED, "method", "Use GET.", Allow="GET"))
    call = read_status_call(request, key, timezone.now())
    for service in services:
        struck = faults.take(service.name, call) if faults_enabled() else None
        if struck is not None:
            links.give_back(service.name)  # a fault may last
            spared = faults.before(request, struck)
            if spared is not None:
                return rendered(spared) if isinstance(spared, Answer) else spared
        status = barrier.status_of(service.name, key)
        links.give_back(service.name)
        if status is not None:
            response = rendered(success(status))
            return response if struck is None else faults.after(request, struck, response)
    return rendered(success({"state": "unknown"}))


def serve_faults(request: HttpRequest, services: list[Service]) -> HttpResponse:
    """Switch faults on (POST), list them (GET), remove all of them (DELETE)."""
    if not faults_enabled():
        return rendered(error(HTTPStatus.NOT_FOUND, "faults_disabled", "Faults are not enabled here."))
    services = accepting(request, services)
    if not services:
        return rendered(UNAUTHORIZED)
    match request.method:
        case "POST":
            return rendered(switch_on(request.body, services))
        case "DELETE":
            return rendered(success({"removed": sum(faults.switch_off_all(s.name) for s in services)}))
        case "GET":
            return rendered(success({s.name: faults.listed(s.name) for s in services}))
    return rendered(error(HTTPStatus.METHOD_NOT_ALLOWED, "method", "Use GET, POST or DELETE."))


def switch_on(body: bytes, services: list[Service]) -> Answer:
    """Store the fault at every service that has the operation."""
    try:
        fault = faults.NewFault.model_validate_json(body)
    except ValidationError as invalid:
        return refusal(barrier.invalid_request(invalid))
    hit = [s for s in services if fault.operation in {"*", "operations", *s.operations}]
    if not hit:
        return NO_SUCH_OPERATION
    for service in hit:
        faults.switch_on(service.name, fault)
    return success({"participants": [service.name for service in hit]}, HTTPStatus.CREATED)


def serve_health(request: HttpRequest, services: list[Service]) -> HttpResponse:
    """200 while the databases of all services answer, else 503 and which one does not."""
    participants: Result = {service.name: database_answers(service.name) for service in services}
    healthy = all(state == "ok" for state in participants.values())
    status = HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE
    document = {"status": "ok" if healthy else "failing", "participants": participants}
    return rendered(Answer(status, encode(document)))


def database_answers(service: str) -> str:
    """`ok`, or what is wrong with the participant's database."""
    connection = connections[service]
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Exception:
        log.warning("database does not answer", exc_info=True, extra={"participant": service})
        links.renew(service)
        return "database does not answer"
    finally:
        links.give_back(service)  # whoever probes all of them holds one at a time
    return "ok"


def fields(service: Service, call: Call) -> dict[str, str]:
    """What log lines tell of a call."""
    return {
        "participant": service.name,
        "operation": call.operation,
        "saga_id": call.saga_id,
        "saga_step": call.step,
        "correlation_id": call.correlation_id,
    }


def rendered(answer: Answer) -> HttpResponse:
    """The answer as Django sends it."""
    response = HttpResponse(answer.body, status=answer.status, content_type="application/json")
    for name, value in answer.headers.items():
        response[name] = value
    response["Content-Length"] = str(len(answer.body))
    return response
