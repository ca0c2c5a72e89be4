"""Accounts, payments and refunds, to be looked at: each change of a balance needs its entry."""

from participants.contract.backoffice import Seen, register
from participants.payments.models import Account, AccountEntry, Payment, Refund


@register(Account)
class AccountAdmin(Seen):
    """What customers have."""

    list_display = ("id", "balance", "currency")
    search_fields = ("=id",)
    ordering = ("id",)


@register(Payment)
class PaymentAdmin(Seen):
    """What was paid."""

    list_display = ("id", "account_id", "amount", "refunded", "currency", "method", "status", "created_at")
    list_filter = ("status",)
    search_fields = ("=id", "=saga_id")
    ordering = ("-id",)


@register(AccountEntry, Refund)
class EntryAdmin(Seen):
    """What has moved money."""

    list_display = ("id", "__str__", "created_at")
    ordering = ("-id",)
