"""The range of products: added, repriced, archived."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from participants.catalogue.models import Product
from participants.contract.backoffice import Kept, register


@register(Product)
class ProductAdmin(Kept):
    """Prices can be changed in the list; archived products stay, since returns may name them."""

    list_display = ("id", "name", "price", "currency", "active")
    list_editable = ("price",)
    list_filter = ("active", "currency")
    search_fields = ("name", "=id")
    ordering = ("id",)
    actions = ("archive", "sell_again")

    @admin.action(description="Archive: sell no longer", permissions=["change"])
    def archive(self, request: HttpRequest, chosen: QuerySet[Product]) -> None:
        """Stop selling the chosen products."""
        self.message_user(request, f"{chosen.update(active=False)} archived.")

    @admin.action(description="Sell again", permissions=["change"])
    def sell_again(self, request: HttpRequest, chosen: QuerySet[Product]) -> None:
        """Sell the chosen products again."""
        self.message_user(request, f"{chosen.update(active=True)} sold again.")
