"""The OpenAPI documents of the participants, against the schema of OpenAPI and against the code."""

from collections.abc import Callable, Iterator
from http import HTTPMethod
from typing import Any

import pytest
from drf_spectacular.validation import validate_schema

from participants.contract import openapi
from participants.contract.bodies import Body, Identifier
from participants.contract.offers import Offers
from participants.contract.outcomes import Outcome
from participants.contract.registry import offers_of, served, service_named
from participants.contract.service import Call
from sagaproject.settings import PARTICIPANT_NAMES

# The function comes without types.
validated: Callable[[Any], None] = validate_schema
METHODS = {method.lower() for method in HTTPMethod}


def of(*names: str, alone: bool = False) -> dict[str, Any]:
    """The document of these participants."""
    return openapi.document([service_named(name) for name in names], beside=offers_of, alone=alone)


def references(value: object) -> Iterator[str]:
    """Every `$ref` in a document."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


@pytest.mark.parametrize("names", [*((name,) for name in PARTICIPANT_NAMES), PARTICIPANT_NAMES])
def test_documents_are_valid_and_whole(names: tuple[str, ...]) -> None:
    document = of(*names, alone=len(names) == 1)
    validated(document)
    for reference in references(document):
        part = document
        for step in reference.removeprefix("#/").split("/"):
            part = part[step]
    ids = [
        operation["operationId"]
        for path in document["paths"].values()
        for method, operation in path.items()
        if method in METHODS
    ]
    assert len(set(ids)) == len(ids)


def test_all_that_is_served_is_described() -> None:
    paths = of(*PARTICIPANT_NAMES)["paths"]
    for service in served():
        for operation in service.operations.values():
            argument = f"/{{{operation.argument}}}" if operation.argument else ""
            described = paths[f"/{service.name}/saga/{operation.name}{argument}"]
            assert operation.summary
            assert described[operation.method.lower()]["summary"] == operation.summary
        for offer in offers_of(service.name).all:
            assert offer.summary
            assert offer.method.lower() in paths[f"/{service.name}/api/{offer.path}"]


def test_what_the_path_says_is_no_field_of_the_body() -> None:
    put = of("orders", alone=True)["paths"]["/api/carts/{cart_id}/items/{product_id}"]["put"]
    body = put["requestBody"]["content"]["application/json"]["schema"]
    assert (list(body["properties"]), body["required"]) == (["quantity"], ["quantity"])
    inside = [parameter["name"] for parameter in put["parameters"] if parameter.get("in") == "path"]
    assert inside == ["cart_id", "product_id"]


def test_a_compensation_needs_two_keys_and_no_body() -> None:
    release = of("inventory", alone=True)["paths"]["/saga/release-stock"]["post"]
    assert "requestBody" not in release
    assert {"$ref": "#/components/parameters/Compensates"} in release["parameters"]


class One(Body):
    """A request for these tests."""

    thing_id: Identifier


def show(body: One, call: Call) -> Outcome:
    """Shows it."""
    return {"thing_id": body.thing_id}


def test_wrong_offers_fail_when_they_are_declared() -> None:
    offers = Offers("shop")
    offers.get("things/{thing_id}")(show)
    with pytest.raises(TypeError, match=r"GET things/\{thing_id\} is declared twice"):
        offers.get("things/{thing_id}")
    with pytest.raises(TypeError, match="add such fields to One"):
        offers.get("things/{other}")(show)


def test_a_path_is_matched_whole() -> None:
    offers = Offers("shop")
    offers.get("things/{thing_id}")(show)
    assert offers.at("things/7")[1] == {"thing_id": "7"}
    assert offers.at("things/7/parts") == offers.at("things/") == ([], {})
