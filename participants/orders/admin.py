"""Carts and addresses to be changed, orders to be looked at."""

from typing import Any

from django.http import HttpRequest

from participants.contract.backoffice import Base, Kept, Lines, Seen, SeenLines, register
from participants.orders.models import Address, Cart, CartLine, Order, OrderLine


@register(Address)
class AddressAdmin(Base):
    """Where clients want goods to be brought; orders keep the address as it was."""

    list_display = ("id", "client_id", "recipient", "street", "postcode", "city", "country")
    search_fields = ("=client_id", "recipient", "city")
    ordering = ("-id",)


class CartLines(Lines):
    """What is in a cart."""

    model = CartLine
    extra = 1


@register(Cart)
class CartAdmin(Kept):
    """What clients mean to order; an ordered cart stays as it is."""

    list_display = ("id", "client_id", "store_id", "order", "created_at")
    search_fields = ("=client_id",)
    fields = ("client_id", "store_id")
    inlines = (CartLines,)
    list_select_related = ("order",)
    ordering = ("-id",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Not once it was ordered."""
        return super().has_change_permission(request, obj) and (obj is None or obj.order_id is None)


class OrderLines(SeenLines):
    """What was ordered."""

    model = OrderLine


@register(Order)
class OrderAdmin(Seen):
    """What clients have ordered."""

    list_display = ("id", "client_id", "store_id", "status", "amount", "currency", "created_at")
    list_filter = ("status",)
    search_fields = ("=client_id", "=saga_id")
    inlines = (OrderLines,)
    ordering = ("-id",)
