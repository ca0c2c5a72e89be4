"""Customers, sales and returns, to be looked at: each change of a balance needs its entry."""

from participants.contract.backoffice import Seen, SeenLines, register
from participants.transactions.models import BalanceEntry, Customer, Refund, Transaction, TransactionLine


@register(Customer)
class CustomerAdmin(Seen):
    """Who buys, and has how much."""

    list_display = ("id", "name", "balance", "currency")
    search_fields = ("name", "=id")
    ordering = ("id",)


class TransactionLines(SeenLines):
    """What was sold or brought back."""

    model = TransactionLine


@register(Transaction)
class TransactionAdmin(Seen):
    """Sales and returns."""

    list_display = ("id", "type", "status", "store_id", "customer_id", "amount", "currency", "created_at")
    list_filter = ("type", "status")
    search_fields = ("=id", "=customer_id", "=saga_id")
    inlines = (TransactionLines,)
    ordering = ("-id",)


@register(BalanceEntry, Refund)
class EntryAdmin(Seen):
    """What has moved money."""

    list_display = ("id", "__str__", "created_at")
    ordering = ("-id",)
