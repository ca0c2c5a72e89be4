"""Users' webhooks and what became of each delivery; a delivery can be sent once more."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from sagas import webhooks
from sagas.admin.readonly import ReadOnlyAdmin
from sagas.models import Webhook, WebhookDelivery


@admin.register(Webhook)
class WebhookAdmin(ReadOnlyAdmin):
    """Where users are told of ends of sagas; secrets are not shown."""

    list_display = ("url", "owner", "types", "active", "failures", "rests_until", "created_at")
    list_filter = ("active",)
    list_select_related = ("owner",)
    search_fields = ("url", "owner__username")
    fields = ("url", "owner", "types", "active", "failures", "rests_until", "created_at", "mark")


class StateFilter(admin.SimpleListFilter):
    """Pending, delivered or given up."""

    title = "state"
    parameter_name = "state"
    conditions: ClassVar[dict[str, dict[str, bool]]] = {
        "pending": {"due_at__isnull": False},
        "delivered": {"delivered_at__isnull": False},
        "given up": {"given_up_at__isnull": False},
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The states."""
        return [(name, name) for name in self.conditions]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Those in the chosen one."""
        return queryset.filter(**self.conditions.get(self.value() or "", {}))


@admin.register(WebhookDelivery)
class DeliveryAdmin(ReadOnlyAdmin):
    """Each end that a hook was to be told."""

    list_display = ("saga_id", "webhook", "state", "attempts", "status_code", "error", "due_at", "created_at")
    list_filter = (StateFilter,)
    list_select_related = ("webhook",)
    search_fields = ("saga__id", "webhook__url")
    show_full_result_count = False
    actions = ("send_again",)
    fields = (
        *("webhook", "saga_id", "epoch", "state", "attempts", "status_code", "error"),
        *("created_at", "due_at", "delivered_at", "given_up_at", "body"),
    )

    @admin.action(description="Send again", permissions=["steer"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]) -> None:
        """Post the chosen ones once more, under the same id."""
        count = webhooks.again(list(queryset.values_list("pk", flat=True)))
        self.message_user(request, f"{count} deliveries are sent again in a moment.", messages.SUCCESS)

    def has_steer_permission(self, request: HttpRequest) -> bool:
        """Who may steer sagas may have a delivery repeated."""
        return bool(request.user.has_perm("sagas.steer_saga"))
