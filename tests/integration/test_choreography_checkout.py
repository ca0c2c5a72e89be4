"""The choreographed checkout and order, driven by hand against real participants, PostgreSQL and Redis."""

from datetime import UTC, datetime

import pytest
from prometheus_client import REGISTRY

from participants.inventory.models import Reservation
from participants.notifications.models import Message
from participants.orders.models import Cart, Order
from sagas.choreography import relay, store
from sagas.choreography.bus import bus
from sagas.choreography.models import AuditEntry, DeadLetter, OrdersByClient, RevenueByStoreDay, Stream
from sagas.retail.choreography.order_payment import ordering
from tests.choreography import GOOD, begin, consume, event, execute, relay_all, settle, types
from tests.retail import assert_books_balance, change, fault, figures

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.usefixtures("shop", "brisk"),
]
PRICED = {"items": [{"product_id": 456, "quantity": 2}], "amount": "59.98", "currency": "EUR"}


def test_a_checkout_that_succeeds() -> None:
    before = figures()
    stream = begin()
    settle()
    assert types(stream) == GOOD
    row = Stream.objects.get(pk=stream)
    assert (row.status, row.succeeded, row.version) == ("succeeded", True, 4)
    assert change(before, figures()) == {"reserved 1/456": 2, "orders": 1, "messages": 1}
    assert_books_balance()


def test_every_event_carries_the_ids_and_its_cause() -> None:
    stream = begin()
    settle()
    events = store.history(stream)
    assert {one.data["checkout_id"] for one in events} == {str(stream)}
    assert {one.data["client_id"] for one in events} == {123}
    assert {one.correlation_id for one in events} == {"of-a-test"}
    assert [one.causation_id for one in events] == [None, events[0].id, events[1].id, events[1].id]
    assert events[0].data["items"] == events[1].data["items"] == [{"product_id": 456, "quantity": 2}]
    order = Order.objects.get()
    assert [one.data["order_id"] for one in events[2:]] == [order.pk, order.pk]


def test_what_was_ordered_is_held_for_good() -> None:
    begin()
    settle()
    assert Reservation.objects.get().expires_at is None


def test_an_address_is_as_personal_as_the_client() -> None:
    stream = begin(address_id=7)
    relay_all()
    consume("choreo-reservation")
    assert event(stream, "StockReserved").data["address_id"] == 7
    assert event(stream, "StockReserved").data["client_id"] == 123
    stored = execute("SELECT data::text FROM choreography_event")
    assert not any("address_id" in data for (data,) in stored)


def test_the_order_closes_the_cart_that_it_is_made_from() -> None:
    cart = Cart.objects.create(client_id=123, store_id=1, created_at=datetime.now(UTC))
    cart.lines.create(product_id=456, quantity=2)
    stream = begin(cart_id=cart.pk)
    settle()
    assert types(stream) == GOOD
    cart.refresh_from_db()
    assert cart.order_id == event(stream, "OrderCreated").data["order_id"]


def test_a_cart_that_nobody_knows_is_refused_and_the_stock_given_back() -> None:
    before = figures()
    stream = begin(cart_id=77)
    settle()
    assert types(stream)[2:] == ["OrderCreationFailed", "StockReleased", "CheckoutFailed"]
    assert event(stream, "OrderCreationFailed").data["code"] == "unknown_cart"
    assert change(before, figures()) == {"messages": 1}
    assert_books_balance()


def test_stock_that_is_short_leads_to_failure_alone() -> None:
    stream = begin(items=[{"product_id": 456, "quantity": 101}])
    settle()
    assert types(stream) == ["CheckoutInitiated", "StockReservationFailed", "CheckoutFailed"]
    assert not Reservation.objects.exists()
    assert event(stream, "CheckoutFailed").data["reason"]
    assert_books_balance()


def test_a_product_that_is_not_sold_gives_the_stock_back() -> None:
    stream = begin(items=[{"product_id": 458, "quantity": 1}])
    settle()
    assert types(stream)[2:] == ["OrderCreationFailed", "StockReleased", "CheckoutFailed"]
    assert Reservation.objects.get().status == Reservation.Status.RELEASED
    assert Stream.objects.get(pk=stream).succeeded is False
    assert "failed" in Message.objects.get().text
    assert_books_balance()


def test_an_order_that_hangs_is_given_up_and_undone_whole() -> None:
    fault("orders", "choreo-order", "error_after", times=None)
    stream = begin()
    settle()
    assert types(stream)[2:] == ["OrderCreationFailed", "StockReleased", "CheckoutFailed"]
    letter = DeadLetter.objects.get()
    assert (letter.consumer, letter.type, letter.deliveries) == ("choreo-order", "StockReserved", 4)
    assert bus().client.xlen("ecommerce.checkout.events.dead") == 1
    assert Order.objects.get().status == Order.Status.CANCELLED
    assert_books_balance()


@pytest.mark.parametrize("kind", ["error_before", "error_after", "reset_after", "unavailable", "cut"])
@pytest.mark.parametrize(
    ("participant", "group"),
    [
        ("inventory", "choreo-reservation"),
        ("orders", "choreo-order"),
        ("notifications", "choreo-notification"),
    ],
)
def test_a_lost_answer_is_asked_for_again(participant: str, group: str, kind: str) -> None:
    fault(participant, group, kind)  # type: ignore[arg-type]  # cases are loose
    before = figures()
    assert types(begin()) == ["CheckoutInitiated"]
    settle()
    assert change(before, figures()) == {"reserved 1/456": 2, "orders": 1, "messages": 1}
    assert not DeadLetter.objects.exists()


def test_the_audit_and_the_read_models() -> None:
    streams = [begin(), begin(client_id=124), begin(), begin(items=[{"product_id": 458, "quantity": 1}])]
    settle()
    assert AuditEntry.objects.count() == 4 * 3 + 5
    mine = OrdersByClient.live.values_list(
        "client_id", "total_orders", "last_checkout_id", "last_order_id", "last_update_ts"
    )
    last = {stream: event(stream, "OrderCreated") for stream in streams[1:3]}
    assert sorted(mine) == [
        (client, total, stream, last[stream].data["order_id"], last[stream].time)
        for client, total, stream in ((123, 2, streams[2]), (124, 1, streams[1]))
    ]
    revenue = RevenueByStoreDay.live.values_list("store_id", "orders", "revenue", "currency")
    assert [(store, n, str(r), c) for store, n, r, c in revenue] == [(1, 3, "179.94", "EUR")]


def test_a_checkout_without_a_next_event_is_compensated_by_event() -> None:
    stream = begin()
    relay_all()
    consume("choreo-reservation")
    execute("UPDATE choreography_stream SET deadline_at = now() - interval '1 second' WHERE id = %s", stream)
    assert relay.expire_overdue(bus()) == 1
    assert relay.expire_overdue(bus()) == 0
    settle()
    assert types(stream) == [
        *("CheckoutInitiated", "StockReserved", "CheckoutTimedOut", "StockReleased", "CheckoutFailed"),
    ]
    assert "CheckoutTimedOut" in AuditEntry.objects.filter(stream=stream).values_list("type", flat=True)
    assert not Order.objects.filter(status="CREATED").exists()
    assert_books_balance()


def test_a_reservation_that_comes_after_the_timeout_is_refused() -> None:
    stream = begin()
    execute("UPDATE choreography_stream SET deadline_at = now() - interval '1 second' WHERE id = %s", stream)
    assert relay.expire_overdue(bus()) == 1
    relay_all()
    consume("choreo-compensation")
    relay_all()
    settle()
    assert types(stream) == ["CheckoutInitiated", "CheckoutTimedOut", "StockReleased", "CheckoutFailed"]
    assert not Reservation.objects.exists()
    assert_books_balance()


def order(**changes: object) -> dict[str, object]:
    return {"topic": ordering, **PRICED, **changes}


def test_an_order_is_paid() -> None:
    before = figures()
    stream = begin(**order())  # type: ignore[arg-type]  # cases are loose
    settle(ordering)
    assert types(stream) == ["OrderInitiated", "StockReserved", "PaymentMade", "OrderCreated"]
    assert change(before, figures()) == {
        "reserved 1/456": 2,
        "orders": 1,
        "messages": 1,
        "payments": 1,
        "account 123": -5998,
    }
    assert_books_balance()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"client_id": 124}, ["StockReserved", "PaymentFailed"]),
        ({"amount": "59.99", "items": [{"product_id": 456, "quantity": 900}]}, ["StockReservationFailed"]),
    ],
)
def test_an_order_that_is_refused_is_undone(changes: dict[str, object], expected: list[str]) -> None:
    before = figures()
    stream = begin(**order(**changes))  # type: ignore[arg-type]  # cases are loose
    settle(ordering)
    told = types(stream)
    assert told[1:-2] == [*expected, "OrderCancelled"]
    assert sorted(told[-2:]) == ["PaymentRefunded", "StockReleased"]
    assert change(before, figures()) == {"messages": 1}
    assert_books_balance()


def test_an_order_whose_creation_hangs_is_released_and_refunded() -> None:
    fault("orders", "order-service", "error_after", times=None)
    before = figures()
    stream = begin(**order())  # type: ignore[arg-type]  # cases are loose
    settle(ordering)
    assert types(stream)[3] == "OrderCancelled"
    assert change(before, figures()) == {"messages": 1, "refunds": 1} or change(before, figures()) == {
        "messages": 1
    }
    assert_books_balance()


def test_an_order_without_a_next_event_is_undone_whole() -> None:
    before = figures()
    stream = begin(**order())  # type: ignore[arg-type]  # cases are loose
    for group in ("order-stock", "order-payment"):
        relay_all()
        consume(group)
    assert types(stream)[-1] == "PaymentMade"
    execute("UPDATE choreography_stream SET deadline_at = now() - interval '1 second' WHERE id = %s", stream)
    assert relay.expire_overdue(bus()) == 1
    settle(ordering)
    told = types(stream)
    assert told[3:5] == ["OrderTimedOut", "OrderCancelled"]
    assert sorted(told[5:]) == ["PaymentRefunded", "StockReleased"]
    assert not Order.objects.filter(status=Order.Status.CREATED).exists()
    assert change(before, figures()).keys() <= {"messages", "payments", "refunds"}
    assert_books_balance()


def test_ends_are_counted_as_successes_and_failures() -> None:
    def counted() -> list[float]:
        sources = {"source": "ecommerce.checkout.events"}
        names = ("saga_choreo_success_total", "saga_choreo_failed_total")
        return [REGISTRY.get_sample_value(name, sources) or 0.0 for name in names]

    good, bad = counted()
    for product in (456, 456, 458):
        begin(items=[{"product_id": product, "quantity": 1}])
    settle()
    execute("INSERT INTO choreography_outbox SELECT position, at FROM choreography_event")
    settle()  # told again, counted once
    assert counted() == [good + 2, bad + 1]
