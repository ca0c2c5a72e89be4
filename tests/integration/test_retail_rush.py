"""Two hundred purchases at once for the last fifty pieces."""

from collections import Counter, deque
from datetime import timedelta
from uuid import UUID

import pytest
from django.db.models import F
from django.db.models.functions import Now
from pytest_django import Settings

from participants.contract import faults
from participants.inventory.models import Stock, StockMovement
from sagas import engine, worker
from sagas.definition import registry
from sagas.models import Saga, SagaStep
from sagas.state import FINISHED, Status
from tests.business import INPUTS
from tests.participants import at_once
from tests.retail import assert_books_balance, change, fault, figures

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.usefixtures("shop"),
    pytest.mark.slow,
]
BUYERS = 200
PIECES = 50
WORKERS = 12
ROUNDS = 100
ONE = {"items": [{"product_id": 456, "quantity": 1, "price": "29.99"}], "amount": "29.99"}


@pytest.fixture
def few_left(shop: None, settings: Settings) -> None:
    """Fifty pieces are left in store 1; workers do one step a message, so that all sagas interleave."""
    settings.SAGAS = settings.SAGAS | {"TIME_SLICE": timedelta(0), "BREAKER": {"failures": 10_000}}
    stock = Stock.objects.get(store_id=1, product_id=456)
    gone = stock.quantity - PIECES
    StockMovement.objects.create(store_id=1, product_id=456, delta=-gone, kind="TRANSFER_OUT")
    StockMovement.objects.create(store_id=2, product_id=456, delta=gone, kind="TRANSFER_IN")
    Stock.objects.filter(store_id=1, product_id=456).update(quantity=PIECES)
    Stock.objects.filter(store_id=2, product_id=456).update(quantity=F("quantity") + gone)


def all_ended() -> bool:
    """Whether no saga is left under way."""
    return not Saga.objects.exclude(status__in=FINISHED).exists()


def one_round() -> None:
    """Whatever is due is done once, by all workers, in no particular order."""
    SagaStep.objects.filter(due_at__gt=Now()).update(due_at=Now())
    due = SagaStep.objects.exclude(due_at=None).order_by("?")
    messages: deque[tuple[UUID, int, int]] = deque(due.values_list("saga_id", "position", "saga__epoch"))
    definition = registry.latest("purchase_saga")

    def work(_worker: int) -> None:
        while messages:
            try:
                saga_id, position, epoch = messages.popleft()
            except IndexError:  # another took the last
                return
            worker.advance(definition, saga_id, position, epoch)

    at_once(WORKERS, work)


@pytest.mark.usefixtures("few_left")
@pytest.mark.parametrize("trouble", [False, True], ids=["calm", "answers lost"])
def test_as_many_buy_as_there_are_pieces(trouble: bool) -> None:
    if trouble:
        for participant, step in (
            ("inventory", "reserve-inventory"),
            ("payments", "process-payment"),
            ("transactions", "create-sale"),
            ("inventory", "update-inventory"),
        ):
            fault(participant, step, "reset_after", times=10)
    before = figures()
    for _ in range(BUYERS):
        engine.start("purchase_saga", INPUTS["purchase_saga"] | ONE)
    for _ in range(ROUNDS):
        one_round()
        if all_ended():
            break
    if trouble:
        struck = [*faults.listed("inventory"), *faults.listed("payments"), *faults.listed("transactions")]
        assert [fault["remaining"] for fault in struck] == [0, 0, 0, 0]
    ended = Counter(Saga.objects.values_list("status", flat=True))
    assert ended.pop(Status.COMPLETED) == PIECES
    assert ended.pop(Status.FAILED, 0) + ended.pop(Status.COMPENSATED, 0) == BUYERS - PIECES
    assert not ended
    assert_books_balance()
    assert change(before, figures()) == {
        "stock 1/456": -PIECES,
        "account 123": -2999 * PIECES,
        "SALE CONFIRMED": PIECES,
        "payments": PIECES,
    }
    left = Stock.objects.get(store_id=1, product_id=456)
    assert (left.quantity, left.reserved) == (0, 0)
