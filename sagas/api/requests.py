"""What the API takes in, as pydantic models, and one way to validate them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    create_model,
)

from sagas.definition import registry
from sagas.errors import InvalidInput
from sagas.interventions import Verb
from sagas.state import Status

MAX_LIMIT = 200
MAX_OFFSET = 10_000

Model = TypeVar("Model", bound=BaseModel)


class RequestBody(BaseModel):
    """Base of bodies and queries: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StartBody(RequestBody):
    """The body of a start; `data` is validated by the definition of `type`."""

    type: Annotated[str, Field(max_length=80)]
    data: dict[str, Any]
    execute: Annotated[bool, Field(strict=True)] = True


Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]


class InterventionBody(RequestBody):
    """Why somebody intervenes; it is kept in the audit."""

    reason: Reason


class OwnWishBody(RequestBody):
    """Why; who started the saga need not say, nor who has it run, and the audit says that instead."""

    reason: Reason | None = None


def in_utc(moment: datetime) -> datetime:
    """The same moment as everything else is stored and answered."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("no such moment in UTC") from None


ARGUMENTS: dict[str, Any] = {
    "step": (Annotated[str, Field(min_length=1, max_length=80)], ...),
    "data": (JsonValue, None),
    "undo": (Annotated[bool, Field(strict=True)], False),
    "outcome": (Literal["completed", "failed", "compensated"], ...),
    "deadline": (Annotated[AwareDatetime, AfterValidator(in_utc)], ...),
}


EXAMPLES: dict[str, Any] = {
    "step": "reserve-stock",
    "data": {"reservation_id": 9},
    "undo": False,
    "outcome": "completed",
    "deadline": "2030-01-01T00:00:00Z",
}


OF_OWNERS = ("execute", "retry", "compensate")


def intervention_body(verb: Verb) -> type[InterventionBody | OwnWishBody]:
    """The body of one verb: the reason, and the arguments that the verb names."""
    if verb.name in OF_OWNERS:
        return OwnWishBody
    if not verb.arguments:
        return InterventionBody
    name = f"{verb.name.title().replace('-', '')}Body"
    fields = {argument: ARGUMENTS[argument] for argument in verb.arguments}
    return create_model(name, __base__=InterventionBody, __doc__=verb.help, **fields)


def installed(value: str | None) -> str | None:
    """Refuse a type that no definition has, naming those there are."""
    if value is not None and value not in registry.types():
        raise ValueError(f"unknown saga type; installed: {', '.join(registry.types())}")
    return value


SagaType = Annotated[str | None, AfterValidator(installed)]


class ListQuery(RequestBody):
    """The query of a list. `before` goes on behind a saga, whatever has been started since."""

    status: Status | None = None
    type: SagaType = None
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = 20
    offset: Annotated[int, Field(ge=0, le=10**9)] = 0
    before: UUID | None = None


def validated(model: type[Model], given: Any, within: str = "") -> Model:
    """`given` as a `model`.

    Raises:
        InvalidInput: with a path for every wrong field, `within` in front.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise InvalidInput(
            [
                {"field": path([within, *item["loc"]]), "message": wording(item["type"], item["msg"])}
                for item in error.errors(include_url=False, include_context=False, include_input=False)
            ]
        ) from None


def wording(kind: str, text: str) -> str:
    """What is wrong, in words of JSON."""
    return "Give a JSON object" if kind.startswith("model_") else text.removeprefix("Value error, ")


def path(parts: list[Any]) -> str:
    """`["data", "items", 0]` as `data.items.0`."""
    return ".".join(str(part) for part in parts if part != "")


def validated_query(given: Mapping[str, str]) -> ListQuery:
    """The query of a list; an empty value is as good as none.

    Raises:
        InvalidInput: a value or a name is unknown, or the offset is too far to skip to.
    """
    query = validated(ListQuery, {name: value for name, value in given.items() if value != ""})
    if query.before is None and query.offset > MAX_OFFSET:
        message = f"At most {MAX_OFFSET}; follow the `next` links, or filter, to get further"
        raise InvalidInput([{"field": "offset", "message": message}])
    return query
