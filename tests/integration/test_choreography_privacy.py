"""A client is anonymised once nothing is left to be done for them, and then nothing tells of them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from sagas.choreography import consumer, deadletters, partitions, privacy, store
from sagas.choreography.models import DeadLetter, Stream
from sagas.choreography.topics import registry
from sagas.errors import NotAllowed
from sagas.retail.choreography.checkout import checkout
from sagas.retail.choreography.order_payment import ordering
from sagas.state import Done
from tests.choreography import BASKET, begin, consume, event, execute, relay_all, settle, types
from tests.retail import assert_books_balance, change, fault, figures

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.usefixtures("shop", "brisk"),
]
PRICED = {"items": [{"product_id": 456, "quantity": 2}], "amount": "59.98", "currency": "EUR"}


def test_a_client_whose_order_is_still_to_be_undone_is_not_anonymised() -> None:
    fault("orders", "order-service", "refuse")
    before = figures()
    stream = begin(ordering, **PRICED)
    for group in ("order-stock", "order-payment", "order-service"):
        relay_all()
        consume(group)
    assert types(stream)[-1] == "OrderCancelled"
    assert Stream.objects.get(pk=stream).ended_at is not None
    with pytest.raises(NotAllowed, match="1 events of client 123"):
        privacy.anonymise(123)
    settle(ordering)
    assert {"StockReleased", "PaymentRefunded"} < set(types(stream))
    assert change(before, figures()) == {"messages": 1}
    assert_books_balance()
    assert privacy.anonymise(123) is not None


def test_a_client_with_a_dead_letter_is_not_anonymised() -> None:
    fault("notifications", "choreo-notification", "error_before", times=4)
    begin()
    settle()
    with pytest.raises(NotAllowed, match="1 dead letters of client 123"):
        privacy.anonymise(123)
    deadletters.redrive(DeadLetter.objects.get().pk, "tester")
    with pytest.raises(NotAllowed, match="1 events of client 123"):
        privacy.anonymise(123)
    settle()
    assert privacy.anonymise(123) is not None


def test_a_group_that_came_later_keeps_nobody_from_being_anonymised() -> None:
    begin()
    settle()
    execute("DELETE FROM choreography_inbox WHERE consumer = 'choreo-notification'")
    execute("UPDATE choreography_checkpoint SET at = now() WHERE consumer = 'choreo-notification'")
    assert privacy.anonymise(123) is not None


def test_the_owner_of_a_stream_is_forgotten_with_its_client() -> None:
    for client, owner in ((123, 7), (124, 8)):
        data = {"client_id": client, "store_id": 1, "items": BASKET}
        store.begin(checkout, data, correlation_id="of-a-test", owner_id=owner)
    settle()
    privacy.anonymise(123)
    assert set(Stream.objects.values_list("owner_id", flat=True)) == {None, 8}


def test_a_letter_that_outlives_its_stream_keeps_no_word_of_the_client() -> None:
    fault("notifications", "choreo-notification", "error_before", times=4)
    begin()
    settle()
    DeadLetter.objects.update(reason="Client 123 says no", note="called 123")
    later = datetime.now(UTC) + timedelta(days=60)
    with transaction.atomic():
        partitions.maintain(timedelta(days=14), timedelta(days=30), later)
        assert not Stream.objects.exists()
        letter = DeadLetter.objects.get()
        transaction.set_rollback(True)
    assert (letter.reason, letter.note) == ("beyond the retention", "")
    assert DeadLetter.objects.get().reason == "Client 123 says no"


def test_what_needs_no_personal_data_is_done_without_it() -> None:
    stream = begin(items=[{"product_id": 458, "quantity": 1}])
    settle()
    failed = replace(event(stream, "OrderCreationFailed"), data={"code": "refused"})
    said = []

    def call(*_: object, **__: object) -> Done:
        said.append(1)
        return Done({})

    facts = consumer.react(registry.groups["choreo-compensation"], failed, None, call)
    assert [fact.type for fact in facts] == ["StockReleased", "CheckoutFailed"]
    assert said == [1]
