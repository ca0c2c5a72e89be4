"""OpenAPI: how each endpoint is described, generated from the definitions that are installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from drf_spectacular.contrib.pydantic import PydanticExtension
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    PolymorphicProxySerializer,
    extend_schema,
)
from pydantic import BaseModel, create_model

from sagas.api.answers import (
    Answer,
    CompensationsAnswer,
    DefinitionsAnswer,
    GraphAnswer,
    SagaAnswer,
    SagaPage,
    summary,
)
from sagas.api.preferences import MAX_KEY, MAX_WAIT
from sagas.api.problems import CONTENT_TYPE
from sagas.api.requests import EXAMPLES, MAX_LIMIT, MAX_OFFSET, RequestBody
from sagas.definition import SagaDefinition, registry
from sagas.interventions import Verb
from sagas.state import Status

F = TypeVar("F", bound=Callable[..., Any])


def component(name: str, schema: dict[str, Any]) -> Any:
    """A schema with a name of its own."""
    make: Any = ResolvedComponent
    return make(name=name, type=ResolvedComponent.SCHEMA, object=name, schema=schema)


class InputExtension(PydanticExtension):  # type: ignore[no-untyped-call]  # its base has no types
    """What the API takes in, as it is validated: defaults may be left out, money may be a number."""

    target_class = "sagas.api.requests.RequestBody"
    match_subclasses = True
    priority = 1

    def map_serializer(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        """The JSON schema; models within become components."""
        schema: dict[str, Any] = self.target.model_json_schema(
            ref_template="#/components/schemas/{model}", mode="validation"
        )
        for name, inner in schema.pop("$defs", {}).items():
            auto_schema.registry.register_on_missing(component(name, inner))
        return schema


class SagaInputExtension(InputExtension):  # type: ignore[no-untyped-call]  # as above
    """The input of one type of saga."""

    target_class = "sagas.definition.SagaInput"


class FieldError(Answer):
    """What is wrong with one field."""

    field: str
    message: str


class Problem(Answer):
    """An error (RFC 9457). `errors` is there if fields of the request are at fault."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    correlation_id: str | None
    errors: list[FieldError]


DESCRIPTIONS = {
    400: "The request is malformed; `errors` names each wrong field",
    401: "No credentials, or wrong ones",
    403: "Your role may not do this",
    404: "There is no such saga for you",
    409: "The saga's state does not allow this",
    411: "The body came in chunks, without a Content-Length",
    413: "The body is too large",
    415: "The body is not JSON",
    422: "The idempotency key was used with another request",
    503: "The database does not answer",
}
OF_BODIES = (400, 411, 413, 415)
SIGNAL_NAME = {"type": "string", "minLength": 1, "maxLength": 80}
ID = OpenApiParameter("saga_id", OpenApiTypes.UUID, OpenApiParameter.PATH, description="The saga's id")
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "pattern": "^[!-~]+$", "minLength": 1, "maxLength": MAX_KEY},
    OpenApiParameter.HEADER,
    description="Repeating the same request under the same key does nothing twice.",
)
FILTERS = [
    OpenApiParameter("type", {"type": "string", "enum": registry.types()}),
    OpenApiParameter("status", {"type": "string", "enum": [status.value for status in Status]}),
    OpenApiParameter("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 20}),
    OpenApiParameter(
        "offset", {"type": "integer", "minimum": 0, "default": 0},
        description=f"At most {MAX_OFFSET}, unless `before` is given as in the links.",
    ),
    OpenApiParameter("before", OpenApiTypes.UUID, description="Go on behind this saga; the links use it."),
]  # fmt: skip


def prefer(default: int) -> OpenApiParameter:
    """The header `Prefer` of an endpoint that waits `default` seconds if nothing is preferred."""
    return OpenApiParameter(
        "Prefer",
        OpenApiTypes.STR,
        OpenApiParameter.HEADER,
        description=f"`wait=N`: wait up to N seconds (at most {MAX_WAIT}) for the end, then answer 200; "
        f"`respond-async`: do not wait. Without it: {f'wait={default}' if default else 'respond-async'}.",
    )


def response_headers(*names: tuple[str, str]) -> list[OpenApiParameter]:
    """Headers of answers that carry a saga something was done to."""
    return [
        OpenApiParameter(
            name, OpenApiTypes.STR, OpenApiParameter.HEADER, response=[200, 202], description=text
        )
        for name, text in names
    ]


DONE_HEADERS = response_headers(
    ("Location", "Where the saga is"),
    ("ETag", "Changes with every transition of the saga"),
    ("Preference-Applied", "Which preference was honoured"),
)


def problems(*statuses: int) -> dict[Any, Any]:
    """The errors that an endpoint answers, beside those that all do."""
    return {
        (status, CONTENT_TYPE): OpenApiResponse(Problem, description=DESCRIPTIONS[status])
        for status in sorted({401, 503, *statuses})
    }


def done() -> dict[Any, Any]:
    """The answers of what starts or steers a saga."""
    return {
        200: OpenApiResponse(SagaAnswer, description="The saga is at rest: finished, or left to a person"),
        202: OpenApiResponse(SagaAnswer, description="The saga goes on; follow it at Location"),
    }


def start_model(definition: SagaDefinition) -> type[BaseModel]:
    """The body that starts one type of saga."""
    pascal = definition.type.title().replace("_", "")
    discriminator: Any = Literal[definition.type]
    return create_model(
        f"Start{pascal}",
        __base__=RequestBody,
        __doc__=summary(definition),
        type=(discriminator, ...),
        data=(definition.Input, ...),
        execute=(bool, True),
    )


def example_of(definition: SagaDefinition) -> dict[str, Any] | None:
    """The first example that the input of a type declares (`json_schema_extra`)."""
    extra = definition.Input.model_config.get("json_schema_extra")
    examples = extra.get("examples") if isinstance(extra, dict) else None
    return dict(examples[0]) if isinstance(examples, list) and isinstance(examples[0], dict) else None


def start_examples() -> list[OpenApiExample]:
    """For every type that declares one, an example that can be sent as it stands."""
    examples = [(saga_type, example_of(registry.latest(saga_type))) for saga_type in registry.types()]
    return [
        OpenApiExample(saga_type, {"type": saga_type, "data": data}, request_only=True)
        for saga_type, data in examples
        if data is not None
    ]


def example(body: Mapping[str, Any]) -> list[OpenApiExample]:
    """An example of a request, to be sent as it stands."""
    return [OpenApiExample("Example", dict(body), request_only=True)]


def start_request() -> Any:
    """One body per installed type, told apart by `type`."""
    models: Any = {saga_type: start_model(registry.latest(saga_type)) for saga_type in registry.types()}
    return PolymorphicProxySerializer("StartSaga", models, "type")


IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match", OpenApiTypes.STR, OpenApiParameter.HEADER, description="An ETag"
)
UNCHANGED = OpenApiResponse(description="It is as it was under that ETag")

start = extend_schema(
    operation_id="start_saga",
    tags=["sagas"],
    request=start_request(),
    examples=start_examples(),
    parameters=[IDEMPOTENCY_KEY, prefer(0), *DONE_HEADERS],
    responses={**done(), **problems(*OF_BODIES, 403, 422)},
)
sagas = extend_schema(
    operation_id="list_sagas",
    tags=["sagas"],
    parameters=FILTERS,
    responses={200: SagaPage, **problems(400, 403)},
)
active_sagas = extend_schema(
    tags=["shortcuts"], parameters=FILTERS, responses={200: SagaPage, **problems(400, 403)}
)
saga = extend_schema(
    operation_id="get_saga",
    tags=["sagas"],
    parameters=[ID, IF_NONE_MATCH],
    responses={200: SagaAnswer, 304: UNCHANGED, **problems(404)},
)
compensations = extend_schema(
    operation_id="list_compensations",
    tags=["sagas"],
    parameters=[ID],
    responses={200: CompensationsAnswer, **problems(404)},
)
definitions = extend_schema(
    operation_id="list_definitions",
    tags=["definitions"],
    parameters=[IF_NONE_MATCH],
    responses={200: DefinitionsAnswer, 304: UNCHANGED, **problems()},
)


def intervention(verb: Verb, body: type[BaseModel]) -> Any:
    """One verb of those who operate."""
    return extend_schema(
        operation_id=f"{verb.name.replace('-', '_')}_saga",
        tags=["sagas" if verb.name in ("execute", "compensate", "retry") else "interventions"],
        description=verb.help,
        request=body,
        examples=example({"reason": "asked for by the customer"} | {n: EXAMPLES[n] for n in verb.arguments}),
        parameters=[ID, IDEMPOTENCY_KEY, prefer(0), *DONE_HEADERS],
        responses={**done(), **problems(*OF_BODIES, 403, 404, 409)},
    )


def signal(body: type[BaseModel]) -> Callable[[F], F]:
    """A word from the outside to a saga."""
    return extend_schema(
        operation_id="signal_saga",
        tags=["outside"],
        request=body,
        examples=example({"data": {"approved": True}}),
        parameters=[
            ID,
            OpenApiParameter("name", SIGNAL_NAME, OpenApiParameter.PATH, description="What is waited for"),
            IDEMPOTENCY_KEY,
            prefer(0),
            *DONE_HEADERS,
        ],
        responses={**done(), **problems(*OF_BODIES, 403, 404, 409)},
    )


def callback(body: type[BaseModel], answer: type[BaseModel]) -> Callable[[F], F]:
    """A participant's late answer."""
    token = OpenApiParameter(
        "token", OpenApiTypes.STR, OpenApiParameter.PATH, description="From X-Callback-Url"
    )
    return extend_schema(
        operation_id="call_back",
        tags=["outside"],
        auth=[],
        request=body,
        examples=example({"status": "success", "data": {"reservation_id": 9}}),
        parameters=[token],
        responses={200: answer, **problems(*OF_BODIES, 404, 409)},
    )


def graph(operation_id: str, *parameters: OpenApiParameter) -> Callable[[F], F]:
    """A picture."""
    return extend_schema(
        operation_id=operation_id,
        tags=["definitions"],
        parameters=list(parameters),
        responses={200: GraphAnswer, **problems(404)},
    )


def shortcut(definition: SagaDefinition, wait: int) -> Any:
    """A start with the bare input of one type."""
    example = example_of(definition)
    return extend_schema(
        operation_id=f"start_{definition.type}",
        tags=["shortcuts"],
        description=f"{summary(definition)} Waits up to {wait} s for the end, unless `Prefer` differs.",
        request=definition.Input,
        examples=[] if example is None else [OpenApiExample(definition.type, example, request_only=True)],
        parameters=[IDEMPOTENCY_KEY, prefer(wait), *DONE_HEADERS],
        responses={**done(), **problems(*OF_BODIES, 403, 422)},
    )
