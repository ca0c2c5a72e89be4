"""Stock, reservations and the movements that account for every change of stock."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from participants.contract import models as contract


class Stock(models.Model):
    """How many of a product lie in a store; `reserved` of them are promised to somebody."""

    id = models.BigAutoField(primary_key=True)
    store_id = models.BigIntegerField()
    product_id = models.BigIntegerField()
    quantity = models.BigIntegerField(default=0)
    reserved = models.BigIntegerField(default=0)

    class Meta:
        verbose_name_plural = "stock"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["store_id", "product_id"], name="inventory_stock_once"),
            models.CheckConstraint(condition=Q(quantity__gte=0), name="inventory_stock_not_negative"),
            models.CheckConstraint(
                condition=Q(reserved__gte=0) & Q(reserved__lte=F("quantity")),
                name="inventory_reserved_within_stock",
            ),
        ]

    def __str__(self) -> str:
        return f"product {self.product_id} in store {self.store_id}"

    @property
    def available(self) -> int:
        """What can still be promised."""
        return self.quantity - self.reserved


class Reservation(models.Model):
    """Stock promised to one basket until it is confirmed, released, or expires.

    What an order was made from has no time of expiry: only its confirmation or its release ends it.
    """

    class Status(models.TextChoices):
        """RESERVED to CONFIRMED (and back, when that is undone), RELEASED or EXPIRED."""

        RESERVED = "RESERVED"
        CONFIRMED = "CONFIRMED"
        RELEASED = "RELEASED"
        EXPIRED = "EXPIRED"

    id = models.BigAutoField(primary_key=True)
    store_id = models.BigIntegerField()
    status = models.CharField(max_length=16, choices=Status, default=Status.RESERVED)
    expires_at = models.DateTimeField(null=True, help_text="null: held until confirmed or released")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["store_id", "expires_at"],
                condition=Q(status="RESERVED"),
                name="inventory_reservation_due",
            ),
        ]

    def __str__(self) -> str:
        return f"reservation {self.pk}: {self.status}"


class ReservationLine(models.Model):
    """So many of one product in a reservation."""

    id = models.BigAutoField(primary_key=True)
    reservation = models.ForeignKey(Reservation, on_delete=models.CASCADE, related_name="lines")
    product_id = models.BigIntegerField()
    quantity = models.BigIntegerField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["reservation", "product_id"], name="inventory_line_once_a_reservation"
            ),
            models.CheckConstraint(condition=Q(quantity__gt=0), name="inventory_line_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} of product {self.product_id}"


class StockMovement(models.Model):
    """One change of the quantity of a product in a store; their sum is the stock."""

    class Kind(models.TextChoices):
        """Why stock changed; each has its reverse."""

        DELIVERY = "DELIVERY"
        SALE = "SALE"
        SALE_REVERSED = "SALE_REVERSED"
        RETURN = "RETURN"
        RETURN_REVERSED = "RETURN_REVERSED"
        TRANSFER_OUT = "TRANSFER_OUT"
        TRANSFER_OUT_REVERSED = "TRANSFER_OUT_REVERSED"
        TRANSFER_IN = "TRANSFER_IN"
        TRANSFER_IN_REVERSED = "TRANSFER_IN_REVERSED"
        REPLENISHMENT = "REPLENISHMENT"
        REPLENISHMENT_REVERSED = "REPLENISHMENT_REVERSED"

    id = models.BigAutoField(primary_key=True)
    store_id = models.BigIntegerField()
    product_id = models.BigIntegerField()
    delta = models.BigIntegerField()
    kind = models.CharField(max_length=32, choices=Kind)
    saga_id = models.CharField(max_length=64, default="")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=~Q(delta=0), name="inventory_movement_moves"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["store_id", "product_id"], name="inventory_movement_of_stock"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.delta:+d} of product {self.product_id} in store {self.store_id}"


class StockTransfer(models.Model):
    """The note of a transfer between two stores that has taken place."""

    id = models.BigAutoField(primary_key=True)
    source_store_id = models.BigIntegerField()
    destination_store_id = models.BigIntegerField()
    employee_id = models.BigIntegerField(null=True)
    items = models.JSONField(help_text="list of {product_id, quantity}")
    saga_id = models.CharField(max_length=64, default="")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=~Q(source_store_id=F("destination_store_id")),
                name="inventory_transfer_between_two",
            ),
        ]

    def __str__(self) -> str:
        return f"transfer {self.pk} from store {self.source_store_id} to {self.destination_store_id}"


class Operation(contract.Operation):
    """The idempotency keys of this participant."""


class Fault(contract.Fault):
    """The faults switched on at this participant."""
