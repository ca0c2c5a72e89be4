"""A definition whose steps have changed while its version has not: what was begun can still be looked at."""

from __future__ import annotations

import html
from collections.abc import Iterator

import pytest
from django.test import Client

from sagas import engine
from sagas.definition import Call, Participant, SagaDefinition, SagaView, registry, step
from sagas.state import Done, Refused, SagaState
from tests import stories
from tests.api import SAGAS, caller

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore:No directory at:UserWarning"),  # static files were not collected
]

shop = Participant("shop")


class Began(SagaDefinition, register=False):
    """As it was when the saga began."""

    type = "changed"

    @step
    def reserve(self, saga: SagaView) -> Call:
        return shop.post("reserve")

    @reserve.compensation
    def release(self, saga: SagaView) -> Call:
        return shop.post("release")

    @step
    def charge(self, saga: SagaView) -> Call:
        return shop.post("charge")

    @charge.compensation
    def refund(self, saga: SagaView) -> Call:
        return shop.post("refund")

    @step
    def ship(self, saga: SagaView) -> Call:
        return shop.post("ship")


class Shorter(SagaDefinition, register=False):
    """The last two steps are gone, and the first undoes itself otherwise."""

    type = "changed"
    reserve = Began.__dict__["reserve"]
    release = Began.__dict__["release"]


class Reordered(SagaDefinition, register=False):
    """The first two have changed places."""

    type = "changed"
    charge = Began.__dict__["charge"]
    reserve = Began.__dict__["reserve"]
    ship = Began.__dict__["ship"]


@pytest.fixture
def known() -> Iterator[dict[tuple[str, int], SagaDefinition]]:
    registry.by_key["changed", 1] = Began()
    yield registry.by_key
    del registry.by_key["changed", 1]


def turned() -> SagaState:
    """A saga whose second compensation waits for its next attempt."""
    state = engine.start("changed", {}).state
    return stories.play(state, [Done({}), Done({}), Refused("sold_out", "nothing left")])


def undos(answer: dict[str, list[dict[str, dict[str, str] | None]]], key: str = "steps") -> list[str | None]:
    """The names of the compensations, as the API answers them."""
    found = [row["compensation"] for row in answer[key]]
    return [one["name"] if one else None for one in found]


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        (Began, ["release", "refund", None]),
        (Shorter, ["release", None, None]),
        (Reordered, [None, None, None]),
    ],
)
def test_the_api_shows_no_compensation_of_another_step(
    known: dict[tuple[str, int], SagaDefinition], changed: type[SagaDefinition], names: list[str | None]
) -> None:
    state, operator = turned(), caller("operator")
    known["changed", 1] = changed()
    one = operator.get(f"{SAGAS}/{state.id}")
    assert one.status_code == 200, one.content
    assert undos(one.json()) == names
    listed = operator.get(SAGAS, {"status": "compensating"})
    assert listed.status_code == 200, listed.content
    assert undos(listed.json()["results"][0]) == names
    effects = operator.get(f"{SAGAS}/{state.id}/compensations")
    assert effects.status_code == 200, effects.content


@pytest.mark.parametrize("changed", [Shorter, Reordered])
def test_the_admin_shows_the_saga_and_says_why_nothing_can_be_done(
    known: dict[tuple[str, int], SagaDefinition], changed: type[SagaDefinition], admin_client: Client
) -> None:
    state = turned()
    known["changed", 1] = changed()
    page = admin_client.get(f"/admin/sagas/saga/{state.id}/change/")
    assert page.status_code == 200
    text = html.unescape(page.content.decode())
    assert "changed version 1 no longer has the steps that this saga began with" in text
    assert admin_client.get("/admin/sagas/saga/").status_code == 200


def test_the_admin_calls_an_undo_by_its_step_where_the_code_has_another(
    known: dict[tuple[str, int], SagaDefinition], admin_client: Client
) -> None:
    state = turned()
    assert ">refund<" in listed(admin_client)
    known["changed", 1] = Shorter()
    text = listed(admin_client)
    assert str(state.id) in text
    assert ">undo charge<" in text


def listed(client: Client) -> str:
    return client.get("/admin/sagas/saga/").content.decode()
