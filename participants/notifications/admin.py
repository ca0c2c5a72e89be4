"""Messages, to be looked at: what was sent cannot be unsent."""

from participants.contract.backoffice import Seen, register
from participants.notifications.models import Message


@register(Message)
class MessageAdmin(Seen):
    """What clients were told."""

    list_display = ("id", "client_id", "order_id", "kind", "text", "sent_at")
    list_filter = ("kind",)
    search_fields = ("=client_id", "=order_id")
    ordering = ("-id",)
