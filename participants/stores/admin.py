"""Stores, opened and closed."""

from participants.contract.backoffice import Kept, register
from participants.stores.models import Store


@register(Store)
class StoreAdmin(Kept):
    """Where goods are sold, and when."""

    list_display = ("id", "name", "city", "opens_at", "closes_at", "active")
    list_filter = ("active",)
    search_fields = ("name", "city", "=id")
    ordering = ("id",)
