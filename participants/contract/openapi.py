"""The OpenAPI document of participants, made from their declarations.

For one participant the paths are relative to `/<participant>`; for all of them they begin with it.
"""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from participants.contract.bodies import Body
from participants.contract.offers import Offer, Offers
from participants.contract.service import STATUS_QUERY, Action, AnyOperation, Compensation, Query, Service

Json = dict[str, Any]
SCHEMAS = "#/components/schemas/"

ABOUT = (
    "Local transactions for sagas, and what is offered beside them. An action takes effect once per "
    "Idempotency-Key; a compensation names the key of its action in X-Compensates; the status query tells "
    "what became of a key. A refusal (409, 422) is final and is replayed for the same key."
)
TEXT: Json = {"type": "string"}


def envelope(status: str, **fields: Json) -> Json:
    """The schema of an answer with that status."""
    known = {"status": {"const": status}, **fields}
    return {"type": "object", "properties": known, "required": list(known)}


FIXED_SCHEMAS: Mapping[str, Json] = {
    "Success": envelope("success", data={"type": "object"}),
    "Refusal": envelope("failed", code=TEXT, reason=TEXT),
    "Error": envelope("error", code=TEXT, reason=TEXT),
    "OperationStatus": {
        "type": "object",
        "properties": {
            "state": {"enum": ["completed", "failed", "in_progress", "unknown"]},
            "operation": TEXT,
            "undone": {"type": "boolean"},
            "result": {"type": "object"},
            "code": TEXT,
            "reason": TEXT,
        },
        "required": ["state"],
    },
}
LATER: Json = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
FIXED_RESPONSES: Mapping[str, tuple[str, str, Json]] = {
    "400": ("Error", "A header cannot be used; nothing was done.", {}),
    "401": ("Error", "The credential is not accepted.", {}),
    "404": ("Error", "What the path names is not there.", {}),
    "409": ("Refusal", "Refused.", {}),
    "410": ("Error", "The key is past its retention; nothing was done.", {}),
    "422": ("Refusal", "Refused: the request is invalid, or the key was used with another one.", {}),
    "425": ("Error", "A call with this key is being processed.", LATER),
    "500": ("Error", "Failed; the outcome may be asked for.", {}),
    "503": ("Error", "Nothing was done; try again.", LATER),
}
ALWAYS = ("401", "422", "500", "503")
KEYED = ("400", "409", "410", "425")


def header(name: str, about: str, schema: Json | None = None, *, required: bool = False) -> Json:
    """A parameter of a request's headers."""
    shape = schema or {"type": "string", "maxLength": 200, "pattern": "^[\\x21-\\x7e]+$"}
    return {"name": name, "in": "header", "required": required, "schema": shape, "description": about}


TIME: Json = {"type": "string", "format": "date-time"}
FIXED_PARAMETERS: Mapping[str, Json] = {
    "Key": header("Idempotency-Key", "The effect takes place once per key.", required=True),
    "OptionalKey": header("Idempotency-Key", "With it the effect takes place once per key."),
    "Compensates": header("X-Compensates", "The key of the action to undo.", required=True),
    "IssuedAt": header("X-Key-Issued-At", "When the key was made.", TIME),
    "SagaId": header("X-Saga-Id", "Kept with the key.", TEXT),
    "SagaStep": header("X-Saga-Step", "Kept with the key.", TEXT),
    "CorrelationId": header("X-Correlation-Id", "Appears in the logs.", TEXT),
}


def document(services: Sequence[Service], beside: Callable[[str], Offers], *, alone: bool) -> Json:
    """The document of these participants; `alone` leaves their names out of the paths."""
    schemas: Json = dict(FIXED_SCHEMAS)
    paths: Json = {"/health": {"get": health()}}
    for service in services:
        prefix = "" if alone else f"/{service.name}"
        for operation in service.operations.values():
            path = f"{prefix}/saga/{operation.name}"
            if argument := operation.argument:
                path += f"/{{{argument}}}"
            paths[path] = {operation.method.lower(): of_operation(service, operation, schemas)}
        paths[f"{prefix}/saga/{STATUS_QUERY}/{{key}}"] = {"get": of_status(service)}
        for offer in beside(service.name).all:
            here = paths.setdefault(f"{prefix}/api/{offer.path}", {})
            here[offer.method.lower()] = of_offer(service, offer, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": title(services, alone), "version": "1.0", "description": ABOUT},
        "servers": [{"url": f"/{services[0].name}" if alone else "/"}],
        "security": [{"credential": []}],
        "tags": [{"name": service.name} for service in services],
        "paths": paths,
        "components": {
            "securitySchemes": {"credential": {"type": "http", "scheme": "bearer"}},
            "parameters": dict(FIXED_PARAMETERS),
            "responses": {status: response(*made) for status, made in FIXED_RESPONSES.items()},
            "schemas": schemas,
        },
    }


def title(services: Sequence[Service], alone: bool) -> str:
    """What the document is about."""
    return f"Participant {services[0].name}" if alone else "Participants"


def of_operation(service: Service, operation: AnyOperation, schemas: Json) -> Json:
    """An action, compensation or query."""
    described: Json = {
        "operationId": operation.name,
        "tags": [service.name],
        "summary": operation.summary,
        "parameters": [*keys_of(operation), *refs("SagaId", "SagaStep", "CorrelationId")],
    }
    if isinstance(operation, Compensation):
        described["description"] = f"Undoes `{operation.undoes}`; the body is not read and may be empty."
    else:
        fields = [operation.argument] if operation.argument else []
        take(described, operation.method, operation.body, fields, schemas)
    status = operation.success_status if isinstance(operation, Action) else HTTPStatus.OK
    described["responses"] = responses(status, () if isinstance(operation, Query) else KEYED)
    if isinstance(operation, Query):
        described["responses"]["409"] = {"$ref": "#/components/responses/409"}
    return described


def keys_of(operation: AnyOperation) -> list[Json]:
    """The headers that carry keys."""
    if isinstance(operation, Query):
        return []
    if isinstance(operation, Compensation):
        return refs("Key", "Compensates", "IssuedAt")
    return refs("OptionalKey" if operation.key_optional else "Key", "IssuedAt")


def of_offer(service: Service, offer: Offer, schemas: Json) -> Json:
    """A resource beside the sagas."""
    reads = offer.method == "GET"
    described: Json = {
        "operationId": f"{service.name}-{offer.method.lower()}-{offer.path}",
        "tags": [service.name],
        "summary": offer.summary,
        "parameters": refs("CorrelationId") if reads else refs("OptionalKey", "CorrelationId"),
    }
    take(described, offer.method, offer.body, offer.arguments, schemas)
    extra = (*(() if reads else ("400", "409", "425")), *(("404",) if offer.arguments else ()))
    described["responses"] = responses(offer.success_status, extra)
    return described


def of_status(service: Service) -> Json:
    """The status query."""
    found = envelope("success", data={"$ref": f"{SCHEMAS}OperationStatus"})
    return {
        "operationId": f"{service.name}-status",
        "tags": [service.name],
        "summary": "Tell what became of a key.",
        "parameters": [{"name": "key", "in": "path", "required": True, "schema": TEXT}],
        "responses": {
            "200": {"description": "What became of it.", "content": {"application/json": {"schema": found}}},
            **{status: {"$ref": f"#/components/responses/{status}"} for status in ("401", "500")},
        },
    }


def health() -> Json:
    """The check of the process."""
    return {
        "operationId": "health",
        "summary": "Tell whether the databases answer.",
        "security": [],
        "responses": {"200": {"description": "They do."}, "503": {"description": "One does not."}},
    }


def take(described: Json, method: str, body: type[Body], in_path: Sequence[str], schemas: Json) -> None:
    """Add the fields of the request: those of the path, and the others as query or body."""
    schema = body.model_json_schema(ref_template=SCHEMAS + "{model}")
    for name, shape in schema.pop("$defs", {}).items():
        if schemas.setdefault(name, shape) != shape:
            raise TypeError(f"Two models of requests are called {name}; rename one.")
    fields: Json = schema.pop("properties", {})
    required: list[str] = schema.pop("required", [])
    parameters = described["parameters"]
    for name in in_path:
        parameters.append({"name": name, "in": "path", "required": True, "schema": fields.pop(name)})
    required = [name for name in required if name in fields]
    if method == "GET":
        parameters.extend(
            {"name": name, "in": "query", "required": name in required, "schema": shape}
            for name, shape in fields.items()
        )
    elif fields:
        whole = {**schema, "properties": fields, **({"required": required} if required else {})}
        described["requestBody"] = {
            "required": bool(required),
            "content": {"application/json": {"schema": whole}},
        }


def responses(status: int, extra: Sequence[str]) -> Json:
    """The success and what else may be answered."""
    done = {"schema": {"$ref": f"{SCHEMAS}Success"}}
    success = {"description": "Done, or done before.", "content": {"application/json": done}}
    others = {other: {"$ref": f"#/components/responses/{other}"} for other in sorted({*ALWAYS, *extra})}
    return {str(int(status)): success, **others}


def response(schema: str, about: str, headers: Json) -> Json:
    """A response that many operations share."""
    content = {"application/json": {"schema": {"$ref": SCHEMAS + schema}}}
    return {"description": about, "content": content, **({"headers": headers} if headers else {})}


def refs(*names: str) -> list[Json]:
    """References to parameters that many operations share."""
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]
