"""Stock, reservations and movements, to be looked at: each change of stock needs its movement."""

from participants.contract.backoffice import Seen, SeenLines, register
from participants.inventory.models import Reservation, ReservationLine, Stock, StockMovement, StockTransfer


@register(Stock)
class StockAdmin(Seen):
    """How many of what lie where."""

    list_display = ("store_id", "product_id", "quantity", "reserved", "available")
    search_fields = ("=store_id", "=product_id")
    ordering = ("id",)


@register(StockMovement)
class StockMovementAdmin(Seen):
    """Why stock has changed."""

    list_display = ("id", "store_id", "product_id", "delta", "kind", "created_at")
    list_filter = ("kind",)
    search_fields = ("=store_id", "=product_id", "=saga_id")
    ordering = ("-id",)


class ReservationLines(SeenLines):
    """What is reserved."""

    model = ReservationLine


@register(Reservation)
class ReservationAdmin(Seen):
    """Who holds what, until when."""

    list_display = ("id", "store_id", "status", "expires_at", "created_at")
    list_filter = ("status",)
    inlines = (ReservationLines,)
    ordering = ("-id",)


@register(StockTransfer)
class StockTransferAdmin(Seen):
    """Goods that went from store to store."""

    list_display = ("id", "source_store_id", "destination_store_id", "employee_id", "created_at")
    ordering = ("-id",)
