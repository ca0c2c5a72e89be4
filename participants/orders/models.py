"""Customers' orders, and the carts and delivery addresses that they are made from."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from participants.contract import models as contract


class Address(models.Model):
    """Where a client wants goods to be brought."""

    id = models.BigAutoField(primary_key=True)
    client_id = models.BigIntegerField(db_index=True)
    recipient = models.CharField(max_length=120)
    street = models.CharField(max_length=200)
    postcode = models.CharField(max_length=16)
    city = models.CharField(max_length=120)
    country = models.CharField(max_length=2, help_text="two letters, ISO 3166")

    class Meta:
        verbose_name_plural = "addresses"

    def __str__(self) -> str:
        return f"{self.recipient}, {self.street}, {self.postcode} {self.city} ({self.country})"


class Order(models.Model):
    """What a client ordered from a store."""

    class Status(models.TextChoices):
        """CREATED until it is cancelled."""

        CREATED = "CREATED"
        CANCELLED = "CANCELLED"

    id = models.BigAutoField(primary_key=True)
    client_id = models.BigIntegerField()
    store_id = models.BigIntegerField()
    reservation_id = models.BigIntegerField(null=True)
    payment_id = models.BigIntegerField(null=True)
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    currency = models.CharField(max_length=3, default="EUR")
    delivery_address = models.CharField(max_length=500, default="", help_text="as it was when ordered")
    status = models.CharField(max_length=16, choices=Status, default=Status.CREATED)
    saga_id = models.CharField(max_length=64, default="")
    created_at = models.DateTimeField(db_default=Now())
    cancelled_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(amount__gte=0), name="orders_amount_not_negative"),
            models.CheckConstraint(
                condition=Q(status="CREATED", cancelled_at=None)
                | Q(status="CANCELLED", cancelled_at__isnull=False),
                name="orders_cancelled_with_time",
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["client_id", "id"], name="orders_of_client"),
        ]

    def __str__(self) -> str:
        return f"order {self.pk}: {self.status}"


class OrderLine(models.Model):
    """So many of one product; the price is null where the order was priced as a whole."""

    id = models.BigAutoField(primary_key=True)
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    product_id = models.BigIntegerField()
    quantity = models.BigIntegerField()
    price = models.DecimalField(max_digits=12, decimal_places=2, null=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(quantity__gt=0), name="orders_line_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} of product {self.product_id}"


class Cart(models.Model):
    """What a client means to order from a store; the order that is made from it closes it."""

    id = models.BigAutoField(primary_key=True)
    client_id = models.BigIntegerField(db_index=True)
    store_id = models.BigIntegerField()
    order = models.OneToOneField(Order, null=True, on_delete=models.PROTECT, related_name="cart")
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"cart {self.pk} of client {self.client_id}"


class CartLine(models.Model):
    """So many of one product in a cart."""

    id = models.BigAutoField(primary_key=True)
    cart = models.ForeignKey(Cart, on_delete=models.CASCADE, related_name="lines")
    product_id = models.BigIntegerField()
    quantity = models.BigIntegerField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["cart", "product_id"], name="orders_cart_line_once"),
            models.CheckConstraint(condition=Q(quantity__gt=0), name="orders_cart_line_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} of product {self.product_id}"


class Operation(contract.Operation):
    """The idempotency keys of this participant."""


class Fault(contract.Fault):
    """The faults switched on at this participant."""
