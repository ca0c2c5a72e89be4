"""Replenishment requests and the central stock."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from participants.contract import models as contract


class CentralStock(models.Model):
    """How many of a product lie in the centre, and how many a store may ask for at once."""

    id = models.BigAutoField(primary_key=True)
    product_id = models.BigIntegerField()
    quantity = models.BigIntegerField(default=0)
    limit = models.BigIntegerField(default=500, help_text="most that one request may ask for")

    class Meta:
        verbose_name_plural = "central stock"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["product_id"], name="supply_chain_stock_once"),
            models.CheckConstraint(condition=Q(quantity__gte=0), name="supply_chain_stock_not_negative"),
        ]

    def __str__(self) -> str:
        return f"product {self.product_id} in the centre"


class ReplenishmentRequest(models.Model):
    """A store asks for goods from the centre."""

    class Status(models.TextChoices):
        """REQUESTED until it is decided; a rejection has its reason."""

        REQUESTED = "REQUESTED"
        APPROVED = "APPROVED"
        REJECTED = "REJECTED"

    id = models.BigAutoField(primary_key=True)
    store_id = models.BigIntegerField()
    employee_id = models.BigIntegerField(null=True)
    status = models.CharField(max_length=16, choices=Status, default=Status.REQUESTED)
    reason = models.CharField(max_length=500, default="", help_text="why it was rejected")
    saga_id = models.CharField(max_length=64, default="")
    created_at = models.DateTimeField(db_default=Now())
    decided_at = models.DateTimeField(null=True)
    claimed_at = models.DateTimeField(null=True, help_text="when a saga took on its delivery")

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=(Q(status="REJECTED") & ~Q(reason="")) | (~Q(status="REJECTED") & Q(reason="")),
                name="supply_chain_rejection_has_reason",
            ),
            models.CheckConstraint(
                condition=Q(claimed_at=None) | Q(status="APPROVED"), name="supply_chain_claimed_is_approved"
            ),
        ]

    def __str__(self) -> str:
        return f"request {self.pk} of store {self.store_id}: {self.status}"


class RequestLine(models.Model):
    """So many of one product in a request."""

    id = models.BigAutoField(primary_key=True)
    request = models.ForeignKey(ReplenishmentRequest, on_delete=models.CASCADE, related_name="lines")
    product_id = models.BigIntegerField()
    quantity = models.BigIntegerField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["request", "product_id"], name="supply_chain_line_once"),
            models.CheckConstraint(condition=Q(quantity__gt=0), name="supply_chain_line_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} of product {self.product_id}"


class Operation(contract.Operation):
    """The idempotency keys of this participant."""


class Fault(contract.Fault):
    """The faults switched on at this participant."""
