"""How a participant declares what it offers beside sagas: plain REST resources.

    offers = Offers("catalogue")

    @offers.put("products/{product_id}/price")
    def reprice(body: Reprice, call: Call) -> Outcome: ...

They lie at `/<participant>/api/<path>`. What stands in braces fills the field of that name, and so
does the query. A change runs inside one transaction; with an Idempotency-Key it is done once, and
repeats get the first answer. Raise `Missing` for what the path names and is not there.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from django.db.models import Model, QuerySet
from pydantic import Field

from participants.contract.bodies import Body
from participants.contract.outcomes import Result
from participants.contract.service import Effect, body_of, summary_of

Verb: TypeAlias = Literal["GET", "POST", "PUT", "DELETE"]
B = TypeVar("B", bound=Body)
M = TypeVar("M", bound=Model)


class Missing(Exception):
    """There is nothing at this path; answered 404 with `code` and `reason`."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class Page(Body):
    """Base of lists: at most `limit` entries whose id comes after `after`."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    after: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0


def paged(rows: QuerySet[M], page: Page, told: Callable[[M], Result]) -> Result:
    """One page in order of id; `next` is the `after` of the page that follows, or null."""
    found = list(rows.filter(pk__gt=page.after).order_by("pk")[: page.limit + 1])
    entries = found[: page.limit]
    return {
        "items": [told(row) for row in entries],
        "next": entries[-1].pk if len(found) > page.limit else None,
    }


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One method of one path."""

    method: Verb
    path: str
    body: type[Body]
    effect: Effect[Any]
    summary: str
    success_status: int

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches the paths that this is."""
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path))

    @property
    def arguments(self) -> list[str]:
        """The fields that the path fills."""
        return re.findall(r"\{(\w+)\}", self.path)


class Offers:
    """What one participant offers beside sagas; `name` is also its app label and database alias."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.all: list[Offer] = []

    def get(self, path: str) -> Callable[[Effect[B]], Effect[B]]:
        """Declare a read."""
        return self._declare("GET", path, HTTPStatus.OK)

    def post(
        self, path: str, *, success_status: int = HTTPStatus.CREATED
    ) -> Callable[[Effect[B]], Effect[B]]:
        """Declare the making of something, or with another status a deed."""
        return self._declare("POST", path, success_status)

    def put(self, path: str) -> Callable[[Effect[B]], Effect[B]]:
        """Declare a change to what is said."""
        return self._declare("PUT", path, HTTPStatus.OK)

    def delete(self, path: str) -> Callable[[Effect[B]], Effect[B]]:
        """Declare a removal."""
        return self._declare("DELETE", path, HTTPStatus.OK)

    def at(self, path: str) -> tuple[list[Offer], dict[str, str]]:
        """The offers at a path, one a method, and what the path says; the first declared path wins."""
        for offer in self.all:
            if found := offer.pattern.fullmatch(path):
                return [other for other in self.all if other.path == offer.path], found.groupdict()
        return [], {}

    def _declare(self, method: Verb, path: str, success_status: int) -> Callable[[Effect[B]], Effect[B]]:
        if any((offer.method, offer.path) == (method, path) for offer in self.all):
            raise TypeError(f"{self.name}: {method} {path} is declared twice; remove one.")

        def declare(function: Effect[B]) -> Effect[B]:
            body = body_of(self.name, f"{method} {path}", function)
            offer = Offer(
                method=method,
                path=path,
                body=body,
                effect=function,
                summary=summary_of(function),
                success_status=success_status,
            )
            if unknown := set(offer.arguments) - body.model_fields.keys():
                raise TypeError(f"{self.name}: {path} names {unknown}; add such fields to {body.__name__}.")
            self.all.append(offer)
            return function

        return declare
