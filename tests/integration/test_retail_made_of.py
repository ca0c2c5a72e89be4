"""Sagas made from what participants offer beside them: carts, addresses, requests raised before."""

import pytest

from participants.orders.models import Address, Cart, CartLine, Order
from participants.supply_chain.models import ReplenishmentRequest, RequestLine
from sagas.models import Saga
from tests.business import BASKET
from tests.retail import run

pytestmark = [pytest.mark.django_db(transaction=True, databases="__all__"), pytest.mark.usefixtures("shop")]


def test_a_checkout_of_a_cart_closes_it() -> None:
    address = Address.objects.create(
        client_id=123, recipient="Dora Lind", street="Rua 1", postcode="1000", city="Lisbon", country="PT"
    )
    cart = Cart.objects.create(client_id=123, store_id=1)
    CartLine.objects.create(cart=cart, product_id=456, quantity=2)
    made_of = {"cart_id": cart.pk, "address_id": address.pk}
    assert run("checkout_saga", **made_of).status == "completed"
    order = Order.objects.get()
    assert (order.cart, order.delivery_address) == (cart, str(address))
    refused = run("checkout_saga", **made_of)
    assert refused.status == "compensated"
    error = Saga.objects.get(pk=refused.id).error
    assert error is not None
    assert error["code"] == "cart_closed"


def test_a_request_raised_before_is_delivered_once() -> None:
    request = ReplenishmentRequest.objects.create(store_id=1, employee_id=1)
    for item in BASKET:
        RequestLine.objects.create(request=request, **item)
    assert run("replenishment_saga", request_id=request.pk).status == "completed"
    request.refresh_from_db()
    assert request.status == "APPROVED"
    assert request.claimed_at is not None
    assert run("replenishment_saga", request_id=request.pk).status == "failed"
