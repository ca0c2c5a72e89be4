"""What callers and operators see of the choreography: API, admin, command line."""

import json
import socket
from io import StringIO
from threading import Thread
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command
from django.forms.models import model_to_dict
from django.test import Client
from pytest_django import Settings

from participants.contract import faults
from sagas.choreography import deadletters, relay
from sagas.choreography.bus import bell, bus
from sagas.choreography.models import DeadLetter, OrdersByClient, Stream
from sagas.retail.choreography.order_payment import ordering
from stack.waiting import wait_until
from tests.api import caller
from tests.choreography import BASKET, GOOD, begin, consume, event, execute, relay_all, settle, types
from tests.retail import assert_books_balance, fault

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.usefixtures("shop", "brisk"),
]
START = "/api/commandes/clients/123/checkout/choreo/"
STORE = "/api/event-store"


def start(body: dict[str, Any] | None = None, path: str = START, key: str | None = None) -> Any:
    given = {"store_id": 1, "items": BASKET} if body is None else body
    headers = {} if key is None else {"Idempotency-Key": key}
    return caller("client").post(path, given, format="json", headers=headers)


def test_a_checkout_is_accepted_and_followed() -> None:
    answer = start()
    assert answer.status_code == 202, answer.content
    stream = UUID(answer.json()["checkout_id"])
    assert answer.json()["status"] == "initiated"
    settle()
    replay = caller("client").get(answer["Location"]).json()
    assert replay["id"] == str(stream)
    assert replay["state"]["status"] == "succeeded"
    assert replay["state"]["data"]["order_id"] == event(stream, "OrderCreated").data["order_id"]
    assert [one["type"] for one in replay["events"]] == GOOD
    first = replay["events"][0]
    assert (first["specversion"], first["id"], first["sequence"]) == ("1.0", str(stream), 1)
    assert replay["events"][1]["causationid"] == str(stream)


def test_a_silent_redis_holds_up_no_caller_for_long(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        settings.CHOREOGRAPHY = settings.CHOREOGRAPHY | {"REDIS_URL": url}
        bell.cache_clear()
        caught = Thread(target=bell().ring)
        caught.start()
        assert wait_until(lambda: not caught.is_alive(), 8)
    bell.cache_clear()


def test_the_same_key_is_one_checkout() -> None:
    answers = [start(key="one").json()["checkout_id"] for _ in range(3)]
    assert len(set(answers)) == 1
    other = start({"store_id": 2, "items": BASKET}, key="one")
    assert other.status_code == 422
    assert start(key="two").json()["checkout_id"] != answers[0]


@pytest.mark.parametrize(
    ("body", "path", "field"),
    [
        ({}, START, "store_id"),
        ({"store_id": 1, "items": []}, START, "items"),
        ({"store_id": 1, "items": BASKET, "client_id": 7}, START, "client_id"),
        (None, START.replace("123", "0"), "client_id"),
    ],
)
def test_a_wrong_start_names_the_field(body: dict[str, Any] | None, path: str, field: str) -> None:
    answer = start(body, path)
    assert answer.status_code == 400, answer.content
    assert field in [error["field"] for error in answer.json()["errors"]]


def test_who_may_see_what() -> None:
    stream = UUID(start().json()["checkout_id"])
    mine = f"{STORE}/replay/checkout/{stream}"
    assert caller("client").get(mine).status_code == 200
    assert caller("client", "somebody-else").get(mine).status_code == 404
    assert caller("viewer").get(mine).status_code == 200
    assert caller("viewer").post(START, {}, format="json").status_code == 403
    for path in ("streams/ecommerce.checkout.events/events", "cqrs/orders-by-client/123"):
        assert caller("client").get(f"{STORE}/{path}").status_code == 403


def test_events_are_listed_by_stream_and_type() -> None:
    streams = [begin(), begin()]
    settle()
    viewer = caller("viewer")
    topic = f"{STORE}/streams/ecommerce.checkout.events/events"
    everything = viewer.get(topic).json()
    assert (everything["count"], everything["next"]) == (8, None)
    created = viewer.get(topic, {"type": "OrderCreated"}).json()
    assert {one["subject"] for one in created["results"]} == {str(stream) for stream in streams}
    assert {one["data"]["client_id"] for one in everything["results"]} == {123}
    page = viewer.get(topic, {"limit": 3}).json()
    rest = viewer.get(topic, {"limit": 100, "after": page["next"]}).json()
    assert [*page["results"], *rest["results"]] == everything["results"]
    one = viewer.get(f"{STORE}/streams/{streams[0]}/events").json()
    assert [event["type"] for event in one["results"]] == GOOD
    assert viewer.get(f"{STORE}/streams/nothing/events").status_code == 404
    assert viewer.get(f"{STORE}/streams/{uuid4()}/events").status_code == 404
    assert viewer.get(topic, {"limit": 0}).status_code == 400


@pytest.mark.parametrize("type", ["\0", "Nothing"])
def test_a_type_that_no_topic_has_is_refused(type: str) -> None:
    for stream in ("ecommerce.checkout.events", begin()):
        answer = caller("viewer").get(f"{STORE}/streams/{stream}/events", {"type": type})
        assert answer.status_code == 400
        assert [error["field"] for error in answer.json()["errors"]] == ["type"]


def test_unknown_streams_are_not_found() -> None:
    assert caller("viewer").get(f"{STORE}/replay/checkout/{uuid4()}").status_code == 404
    assert caller("viewer").get(f"{STORE}/replay/order/{begin()}").status_code == 404


def test_the_read_models_answer() -> None:
    stream = begin()
    settle()
    viewer = caller("viewer")
    orders = viewer.get(f"{STORE}/cqrs/orders-by-client/123").json()
    assert (orders["total_orders"], orders["last_checkout_id"]) == (1, str(stream))
    assert viewer.get(f"{STORE}/cqrs/orders-by-client/124").status_code == 404
    revenue = viewer.get(f"{STORE}/cqrs/revenue-by-store-day/1").json()["results"]
    assert [(one["orders"], one["revenue"]) for one in revenue] == [(1, "59.98")]


def run(*arguments: object) -> str:
    out = StringIO()
    call_command("events", *map(str, arguments), stdout=out)
    return out.getvalue()


def dead_letter() -> tuple[UUID, DeadLetter]:
    """A checkout whose customer could not be told."""
    fault("notifications", "choreo-notification", "error_before", times=4)
    stream = begin()
    settle()
    return stream, DeadLetter.objects.get()


def test_a_dead_letter_is_redriven_on_the_command_line() -> None:
    stream, letter = dead_letter()
    assert str(stream) in run("dead-letters", "list")
    assert json.loads(run("dead-letters", "show", letter.pk))["deliveries"] == 4
    with pytest.raises(CommandError, match="--all"):
        run("dead-letters", "redrive")
    assert "on its way" in run("dead-letters", "redrive", "--all")
    settle()
    assert "before" in run("dead-letters", "redrive", letter.pk)
    assert run("dead-letters", "list") == ""
    assert types(stream) == GOOD
    assert execute("SELECT count(*) FROM choreography_auditentry") == [(4,)]
    assert_books_balance()


def test_a_letter_that_cannot_be_redriven_holds_up_no_other_and_is_settled() -> None:
    _, good = dead_letter()
    letter = {**model_to_dict(good, exclude=["id"]), "event_at": "2020-01-01T00:00:00Z", "position": 2**40}
    gone = DeadLetter.objects.create(**letter)
    later = DeadLetter.objects.create(**model_to_dict(good, exclude=["id"]))
    with pytest.raises(CommandError, match=f"dead letter {gone.pk} is beyond the retention"):
        run("dead-letters", "redrive", "--all")
    assert list(deadletters.waiting()) == [gone]
    assert DeadLetter.objects.get(pk=later.pk).redriven_at is not None
    with pytest.raises(CommandError, match="--reason"):
        run("dead-letters", "settle", gone.pk)
    assert "settled" in run("dead-letters", "settle", gone.pk, "--reason", "told by telephone")
    assert "before" in run("dead-letters", "settle", gone.pk, "--reason", "again")
    gone.refresh_from_db()
    assert (bool(gone.redriven_by), gone.note) == (True, "told by telephone")
    assert run("dead-letters", "list") == ""


def test_a_letter_of_a_group_that_is_gone_is_not_redriven_to_nobody() -> None:
    _, letter = dead_letter()
    DeadLetter.objects.update(consumer="choreo-former")
    with pytest.raises(CommandError, match="no group choreo-former"):
        run("dead-letters", "redrive", letter.pk)
    assert list(deadletters.waiting()) == [letter]


def test_settling_the_last_letter_ends_a_stream_that_nothing_else_would_end() -> None:
    fault("inventory", "choreo-compensation", "not_found", times=None)
    stream = begin()
    execute("UPDATE choreography_stream SET deadline_at = now() - interval '1 second' WHERE id = %s", stream)
    relay.expire_overdue(bus())
    for _ in range(8):
        relay_all()
        consume("choreo-compensation")
    letter = DeadLetter.objects.get()
    other = DeadLetter.objects.create(**model_to_dict(letter, exclude=["id"]))
    for one, ended in ((letter, False), (other, True)):
        run("dead-letters", "settle", one.pk, "--reason", "released by hand")
        assert (Stream.objects.get(pk=stream).ended_at is not None) == ended


def test_settling_a_letter_does_not_end_a_stream_that_goes_on() -> None:
    stream = begin()
    DeadLetter.objects.create(
        consumer="choreo-audit",
        topic="ecommerce.checkout.events",
        event_id=stream,
        event_at="2020-01-01T00:00:00Z",
        position=1,
        stream=stream,
        type="CheckoutInitiated",
        deliveries=4,
        reason="of a test",
    )
    run("dead-letters", "settle", DeadLetter.objects.get().pk, "--reason", "of no use")
    assert Stream.objects.get(pk=stream).ended_at is None
    settle()
    assert types(stream) == GOOD


def test_operators_redrive_in_the_admin(admin_client: Client) -> None:
    _, letter = dead_letter()
    page = admin_client.get("/admin/choreography/deadletter/")
    assert "choreo-notification" in page.content.decode()
    admin_client.post(
        "/admin/choreography/deadletter/", {"action": "redrive", "_selected_action": [letter.pk]}
    )
    letter.refresh_from_db()
    assert letter.redriven_by == "admin"
    settle()
    assert DeadLetter.objects.count() == 1
    assert admin_client.get(f"/admin/choreography/deadletter/{letter.pk}/change/").status_code == 200


def test_a_read_model_is_rebuilt() -> None:
    for client in (123, 124, 123):
        begin(client_id=client)
    settle()
    names = ("client_id", "total_orders", "last_order_id", "last_checkout_id", "last_update_ts")
    before = sorted(OrdersByClient.live.values_list(*names))
    OrdersByClient.objects.all().delete()
    assert "rebuilt from 3 events" in run("rebuild", "orders-by-client")
    assert sorted(OrdersByClient.live.values_list(*names)) == before
    assert set(OrdersByClient.objects.values_list("generation", flat=True)) == {2}
    begin()
    settle()
    assert OrdersByClient.live.get(client_id=123).total_orders == 3
    with pytest.raises(CommandError, match="no read model"):
        run("rebuild", "nothing")


def test_a_rebuild_takes_in_what_is_on_its_way() -> None:
    begin()
    settle()
    execute("DELETE FROM choreography_inbox WHERE consumer = 'checkout-cqrs'")
    OrdersByClient.objects.all().delete()
    run("rebuild", "orders-by-client")
    assert OrdersByClient.live.get(client_id=123).total_orders == 1
    execute("INSERT INTO choreography_outbox SELECT position, at FROM choreography_event")
    settle()
    assert OrdersByClient.live.get(client_id=123).total_orders == 1


def test_a_client_is_anonymised() -> None:
    stream = begin()
    with pytest.raises(CommandError, match="open"):
        run("anonymise", "--client", 123)
    settle()
    stored = execute("SELECT sealed, data FROM choreography_event ORDER BY position")
    assert not any("client" in data for _, data in stored)
    assert "4 events" in run("anonymise", "--client", 123)
    assert execute("SELECT sealed, data FROM choreography_event ORDER BY position") == stored
    assert all("client_id" not in one.data for one in (event(stream, type) for type in GOOD))
    assert not OrdersByClient.objects.exists()
    run("rebuild", "orders-by-client")
    assert not OrdersByClient.live.exists()
    with pytest.raises(CommandError, match="nothing is known"):
        run("anonymise", "--client", 123)
    again = begin()
    settle()
    assert event(again, "OrderCreated").data["client_id"] == 123
    assert OrdersByClient.live.get().total_orders == 1


def test_what_participants_said_of_a_client_goes_with_their_key() -> None:
    fault("notifications", "order-notification", "error_before", times=None)
    stream = begin(ordering, client_id=124, amount="59.98", currency="EUR")
    settle(ordering)
    told = "Customer 124 has 5.00"
    for type in ("PaymentFailed", "OrderCancelled"):
        assert told in event(stream, type).data["reason"]
        assert event(stream, type).data["client_id"] == 124
    (detail,) = execute("SELECT detail FROM choreography_auditentry WHERE type = 'PaymentFailed'")
    assert detail == ("insufficient_funds",)
    with pytest.raises(CommandError, match="1 dead letters"):
        run("anonymise", "--client", 124)
    faults.switch_off_all("notifications")
    run("dead-letters", "redrive", "--all")
    settle(ordering)
    DeadLetter.objects.update(reason=told)
    run("anonymise", "--client", 124)
    assert "reason" not in event(stream, "PaymentFailed").data
    for table in ("event", "auditentry", "deadletter", "stream", "clientkey"):
        rows = execute(f"SELECT t::text FROM choreography_{table} t")  # noqa: S608  # named here
        assert rows
        assert not any(told in text for (text,) in rows), table


def test_partitions_are_listed() -> None:
    assert "0 made, 0 dropped" in run("partitions")
    with pytest.raises(CommandError, match="30 days"):
        run("partitions", "--retention", 3)


def test_one_stream_on_the_command_line() -> None:
    stream = begin()
    settle()
    lines = [json.loads(line) for line in run("replay", stream).splitlines()]
    assert [line["type"] for line in lines] == GOOD
    with pytest.raises(CommandError):
        run("replay", uuid4())
