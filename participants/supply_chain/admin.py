"""Replenishment requests, raised and decided, and the stock of the centre."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from participants.contract.backoffice import Kept, Lines, register
from participants.contract.outcomes import Outcome, Refused
from participants.contract.service import Call
from participants.supply_chain import offers
from participants.supply_chain.models import CentralStock, ReplenishmentRequest, RequestLine


class DecisionForm(ActionForm):
    """The form of the actions, with the reason of a rejection."""

    reason = forms.CharField(max_length=500, required=False, label="Reason of a rejection")


class RequestLines(Lines):
    """What is asked for."""

    model = RequestLine
    extra = 1


@register(ReplenishmentRequest)
class ReplenishmentRequestAdmin(Kept):
    """Requests are raised here, and decided by the actions of the list."""

    list_display = ("id", "store_id", "employee_id", "status", "reason", "created_at", "decided_at")
    list_filter = ("status",)
    search_fields = ("=store_id", "=saga_id")
    fields = ("store_id", "employee_id")
    inlines = (RequestLines,)
    ordering = ("-id",)
    actions = ("approve", "reject")
    action_form = DecisionForm

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only until it is decided."""
        undecided = obj is None or obj.status == ReplenishmentRequest.Status.REQUESTED
        return super().has_change_permission(request, obj) and undecided

    @admin.action(description="Approve, above the limits if need be", permissions=["change"])
    def approve(self, request: HttpRequest, chosen: QuerySet[ReplenishmentRequest]) -> None:
        """Approve the chosen requests."""
        self.decide(request, chosen, lambda pk, call: offers.approve(offers.OneRequest(request_id=pk), call))

    @admin.action(description="Reject, for the reason beside", permissions=["change"])
    def reject(self, request: HttpRequest, chosen: QuerySet[ReplenishmentRequest]) -> None:
        """Reject the chosen requests."""
        reason = request.POST.get("reason", "").strip()
        if not reason:
            self.message_user(request, "Give the reason of the rejection.", messages.ERROR)
            return
        self.decide(
            request,
            chosen,
            lambda pk, call: offers.reject(offers.Rejection(request_id=pk, reason=reason), call),
        )

    def decide(
        self,
        request: HttpRequest,
        chosen: QuerySet[ReplenishmentRequest],
        decision: Callable[[int, Call], Outcome],
    ) -> None:
        """Decide one after the other, and tell which could not be."""
        for pk in chosen.order_by("pk").values_list("pk", flat=True):
            try:
                with transaction.atomic(using=offers.offers.name):
                    decision(pk, Call(operation="decide", now=timezone.now()))
            except Refused as refused:
                self.message_user(request, refused.reason, messages.ERROR)
            else:
                self.message_user(request, f"Request {pk} is decided.")


@register(CentralStock)
class CentralStockAdmin(Kept):
    """What lies in the centre, and how much of it a store may ask for at once."""

    list_display = ("product_id", "quantity", "limit")
    list_editable = ("limit",)
    fields = ("product_id", "quantity", "limit")
    readonly_fields = ("quantity",)
    search_fields = ("=product_id",)
    ordering = ("product_id",)
