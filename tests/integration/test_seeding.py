"""Shops made by `manage.py seed`: the same for the same seed, whole, and not made twice."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db.models import F, Sum

from participants.catalogue.models import Product
from participants.contract import plenty
from participants.contract.plenty import SIZES, Draw, Size
from participants.inventory.models import Stock, StockMovement
from participants.payments.models import Account, AccountEntry
from participants.personnel.models import Employee, Shift
from participants.stores.models import Store
from participants.supply_chain.models import CentralStock
from participants.transactions.models import BalanceEntry, Customer

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
TINY = Size(store_count=2, product_count=30, customer_count=40, employees_a_store=3)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes that are made in no time."""
    sizes = {"demo": SIZES["demo"], "small": TINY, "large": Size(3, 40, 50, 3)}
    monkeypatch.setattr(plenty, "SIZES", sizes)
    monkeypatch.setattr("participants.management.commands.seed.SIZES", sizes)


def seed(**options: Any) -> str:
    """What the command prints."""
    out = StringIO()
    call_command("seed", stdout=out, **options)
    return out.getvalue()


def prices() -> dict[int, object]:
    """What products cost."""
    return dict(Product.objects.values_list("pk", "price"))


def assert_whole() -> None:
    """Every quantity and balance is accounted for, and everything belongs to something."""
    for row in Stock.objects.all():
        moved = StockMovement.objects.filter(store_id=row.store_id, product_id=row.product_id)
        assert (moved.aggregate(sum=Sum("delta"))["sum"] or 0) == row.quantity
    for table, entries in ((Customer, BalanceEntry), (Account, AccountEntry)):
        entered = entries.objects.aggregate(sum=Sum("delta"))["sum"]
        assert table.objects.aggregate(sum=Sum("balance"))["sum"] == entered
    assert set(Stock.objects.values_list("store_id", flat=True)) == set(
        Store.objects.values_list("pk", flat=True)
    )
    assert set(Stock.objects.values_list("product_id", flat=True)) == set(prices())


def test_a_shop_of_some_size_is_whole() -> None:
    seed(size="small")
    assert (Stock.objects.count(), Product.objects.count()) == (6 + 60, 3 + 30)
    assert (Customer.objects.count(), Account.objects.count()) == (42, 42)
    assert (Employee.objects.count(), Shift.objects.count()) == (3 + 6, 28 + 30)
    assert CentralStock.objects.count() == 2 + 30
    assert_whole()


def test_a_second_run_adds_nothing_and_keeps_what_is_there() -> None:
    seed(size="small")
    Customer.objects.filter(pk=100_001).update(name="Changed")
    assert all(line.endswith(": 0 rows added") for line in seed(size="small", seed=2).splitlines())
    assert Customer.objects.get(pk=100_001).name == "Changed"


def test_a_bigger_shop_grows_out_of_the_smaller() -> None:
    seed(size="small")
    before = prices()
    stocked = Stock.objects.create(store_id=1_003, product_id=10_001, quantity=5)
    StockMovement.objects.create(store_id=1_003, product_id=10_001, delta=5, kind="DELIVERY")
    seed(size="large")
    assert before.items() <= prices().items()
    assert Stock.objects.get(pk=stocked.pk).quantity == 5
    assert Stock.objects.count() == 6 + 120
    assert_whole()


def test_new_rows_come_after_those_that_were_made() -> None:
    seed(size="small")
    assert Product.objects.create(name="Chair", price=1).pk > 10_030
    assert Customer.objects.create(name="Zoe").pk > 100_040


def test_the_seed_makes_the_shop() -> None:
    one, again, other = Draw(7), Draw(7), Draw(8)
    drawn = [draw.money(1, 1_000, "price", 1) for draw in (one, again, other)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert one.person(1) == again.person(1)


def test_a_big_shop_has_a_million_rows_of_stock() -> None:
    million = SIZES["million"]
    assert million.store_count * million.product_count == 1_000_000
    assert not set(million.products) & {456, 457, 458}


def test_nothing_is_promised_at_first() -> None:
    seed(size="small")
    assert not Stock.objects.filter(reserved__gt=0).exists()
    assert Stock.objects.filter(quantity=F("reserved")).count() < 10
