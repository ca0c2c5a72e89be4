"""Envelopes, folding, schemas, sealing and declarations, without any server."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from pydantic import BaseModel

from sagas.choreography import sealing, store
from sagas.choreography.events import Event, Fact, cleaned, cloudevent, fold, following_id, key_of, parse
from sagas.choreography.topics import Registry, Topic, registry
from sagas.errors import DefinitionError
from sagas.retail.choreography.checkout import checkout
from sagas.retail.choreography.order_payment import ordering

STREAM = UUID("01890000-0000-7000-8000-000000000001")
NOW = datetime(2026, 3, 2, 12, 0, 0, 123456, tzinfo=UTC)
EVENT = Event(
    id=STREAM,
    topic=checkout.name,
    stream=STREAM,
    version=1,
    type="CheckoutInitiated",
    schema_version=1,
    source="start",
    time=NOW,
    correlation_id="c",
    data={"checkout_id": str(STREAM), "client_id": 123},
    position=7,
)


@pytest.fixture(autouse=True)
def no_new_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Topics made here are gone afterwards."""
    monkeypatch.setattr(registry, "topics", dict(registry.topics))
    monkeypatch.setattr(registry, "groups", dict(registry.groups))


def topic(**changes: Any) -> Topic:
    given: dict[str, Any] = {
        "name": "shop.test.events",
        "first": "Begun",
        "statuses": {"Begun": "begun", "Done": "done", "Late": "late", "Noted": "noted"},
        "ends": {"Done": True},
        "timed_out": "Late",
        "timeout": timedelta(seconds=1),
        "Input": BaseModel,
        "id_field": "id",
        "client_field": "client_id",
        **changes,
    }
    return Topic(**given)


def test_the_envelope_has_what_the_standard_requires() -> None:
    envelope = cloudevent(EVENT)
    assert {name: envelope[name] for name in ("specversion", "id", "source", "type")} == {
        "specversion": "1.0",
        "id": str(STREAM),
        "source": "/ecommerce.checkout.events/start",
        "type": "CheckoutInitiated",
    }
    assert datetime.fromisoformat(envelope["time"]) == NOW
    extensions = set(envelope) - {"specversion", "datacontenttype", "dataschema", "data"}
    assert all(name.isalnum() and name.islower() for name in extensions)


@pytest.mark.parametrize(
    "event",
    [EVENT, replace(EVENT, causation_id=STREAM, client=STREAM, sealed="x", schema_version=3, version=9)],
)
def test_an_envelope_is_read_as_it_was_written(event: Event) -> None:
    assert parse(orjson.loads(orjson.dumps(cloudevent(event)))) == event


@pytest.mark.parametrize(
    "broken",
    [
        {"id": "no id"},
        {"time": "yesterday"},
        {"specversion": "0.3"},
        {"data": []},
        {"source": None},
        {"sequence": "first"},
        {"dataschema": 1},
        {"dataschema": "urn:event:x:y:32768"},
        {"position": 2**63},
        {"position": -1},
        {"sequence": 2**31},
        {"sealed": "a\0b"},
        {"correlationid": "\ud800"},
        {"time": "2026-03-02T12:00:00"},
    ],
)
def test_what_is_no_event_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse({**cloudevent(EVENT), **broken})
    with pytest.raises(ValueError, match="not an event"):
        parse({})


def test_texts_are_cleaned_of_what_nothing_can_store() -> None:
    assert cleaned({"a\0": ["b\0c", {"d": "\ud800"}], "e": 1, "f": None}) == {
        "a ": ["b c", {"d": "?"}],
        "e": 1,
        "f": None,
    }


def test_ids_follow_from_causes() -> None:
    assert following_id(STREAM, "a", "T") == following_id(STREAM, "a", "T")
    others = {following_id(STREAM, *pair) for pair in (("a", "T"), ("b", "T"), ("a", "U"))}
    assert len(others) == 3
    assert key_of(STREAM, "group") == f"{STREAM}:group"


def test_a_stream_folds_to_its_status_and_all_that_was_said() -> None:
    told = [
        EVENT,
        replace(EVENT, version=2, type="OrderCreated", data={"order_id": 5}, time=NOW + timedelta(seconds=1)),
        replace(EVENT, version=3, type="CheckoutSucceeded", data={"order_id": 5}),
        replace(EVENT, version=4, type="StockReleased", data={}),
    ]
    folded = fold(told, checkout.statuses, checkout.ends)
    assert (folded.status, folded.version) == ("succeeded", 4)
    assert folded.data == {"checkout_id": str(STREAM), "client_id": 123, "order_id": 5}


def test_old_schemas_are_read_as_todays() -> None:
    def with_currency(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "currency": "EUR"}

    def with_amount(data: dict[str, Any]) -> dict[str, Any]:
        return {"amount": {"value": data.pop("price"), "currency": data.pop("currency")}, **data}

    made = topic(schemas={"Done": 3}, upcasters={("Done", 1): with_currency, ("Done", 2): with_amount})
    old = replace(EVENT, topic=made.name, type="Done", data={"price": "1.00"})
    assert store.today(old, None).data == {"amount": {"value": "1.00", "currency": "EUR"}}
    new = replace(old, schema_version=3)
    assert store.today(new, None) is new
    broken = topic(name="shop.other.events", schemas={"Done": 2})
    with pytest.raises(DefinitionError, match="upcaster from version 1"):
        store.today(replace(old, topic=broken.name), None)


def test_personal_data_is_readable_with_its_key_alone() -> None:
    key = sealing.new_key()
    plain, personal = sealing.split({"client_id": 123, "items": []}, frozenset({"client_id"}))
    sealed = replace(EVENT, data=plain, sealed=sealing.seal(personal, key))
    assert "123" not in sealed.sealed
    assert sealing.readable(sealed, key).data == {"items": [], "client_id": 123}
    for other in (None, sealing.new_key()):
        assert sealing.readable(sealed, other).data == {"items": []}
    assert sealing.seal({}, key) == ""


def test_wrong_declarations_say_so() -> None:
    with pytest.raises(DefinitionError, match="status"):
        topic(ends={"Nothing": True})
    made = topic()
    with pytest.raises(DefinitionError, match="already"):
        topic()
    group = made.group("test-group")
    with pytest.raises(DefinitionError, match="already"):
        made.group("test-group")
    with pytest.raises(DefinitionError, match="Nothing"):
        group.on("Nothing")(lambda event, call: [])
    group.on("Begun", given_up=lambda event, reason: [Fact("Done")])(lambda event, call: [])
    with pytest.raises(DefinitionError, match="Begun"):
        group.on("Begun")(lambda event, call: [])
    assert (group.types, made.dead_letters) == (("Begun",), "shop.test.events.dead")
    assert Registry().topics == {}


def test_the_shop_declares_what_the_domain_names() -> None:
    assert {name: group.types for name, group in checkout.groups.items() if group.fold is None} == {
        "choreo-reservation": ("CheckoutInitiated",),
        "choreo-order": ("StockReserved",),
        "choreo-compensation": ("StockReservationFailed", "OrderCreationFailed", "CheckoutTimedOut"),
        "choreo-notification": ("CheckoutSucceeded", "CheckoutFailed"),
    }
    assert set(checkout.groups["choreo-audit"].types) == checkout.types
    assert checkout.groups["checkout-cqrs"].types == ("OrderCreated",)
    assert len(checkout.types) == 9
    assert ordering.name == "ecommerce.order.events"
