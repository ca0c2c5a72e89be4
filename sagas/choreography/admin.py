"""Dead letters for operators: look at them, send them on their way again."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from sagas.admin.readonly import ReadOnlyAdmin
from sagas.choreography import deadletters
from sagas.choreography.models import DeadLetter
from sagas.errors import NotAllowed

SEE, STEER = "sagas.view_saga", "sagas.steer_saga"


class Waiting(admin.SimpleListFilter):
    """Whether somebody has dealt with a letter."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The two states."""
        return [("waiting", "waiting"), ("redriven", "redriven")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The letters in the chosen state."""
        if self.value() is None:
            return queryset
        return queryset.filter(redriven_at__isnull=self.value() == "waiting")


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnlyAdmin):
    """Who may see sagas may see these; who may steer sagas may redrive them."""

    list_display = ("id", "at", "consumer", "type", "stream", "deliveries", "why", "redriven_at")
    list_filter = (Waiting, "consumer", "topic")
    search_fields = ("stream__exact", "event_id__exact")
    ordering = ("-id",)
    actions = ("redrive",)

    @admin.display(description="reason")
    def why(self, letter: DeadLetter) -> str:
        """The beginning of the reason."""
        return letter.reason[:120]

    @admin.action(description="Redrive: have the group handle the event after all", permissions=["steer"])
    def redrive(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> None:
        """Send the chosen letters on their way."""
        who = request.user.get_username()
        done = 0
        for letter in queryset.order_by("pk"):
            try:
                done += deadletters.redrive(letter.pk, who)
            except NotAllowed as error:
                messages.error(request, str(error))
        messages.success(request, f"{done} on their way; those redriven before were left alone.")

    def has_steer_permission(self, request: HttpRequest) -> bool:
        """Operators."""
        return request.user.has_perm(STEER)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Viewers and operators."""
        return request.user.has_perm(SEE)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """The same."""
        return request.user.has_perm(SEE)
