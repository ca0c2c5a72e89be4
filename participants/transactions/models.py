"""Customers' balances, sales and returns, refunds, and the entries that account for balances."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from participants.contract import models as contract


class Customer(models.Model):
    """Somebody with a balance that in-store sales are paid from."""

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=120)
    balance = models.DecimalField(max_digits=12, decimal_places=2, default=0)
    currency = models.CharField(max_length=3, default="EUR")

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(balance__gte=0), name="transactions_balance_not_negative"),
        ]

    def __str__(self) -> str:
        return self.name


class Transaction(models.Model):
    """A sale, or the return of part of one.

    A sale is paid from the customer's balance here, or by a payment that the payments
    participant keeps (`payment_id`).
    """

    class Type(models.TextChoices):
        """What kind of business it is."""

        SALE = "SALE"
        RETURN = "RETURN"

    class Status(models.TextChoices):
        """PENDING until confirmed or cancelled; a confirmed one can still be cancelled."""

        PENDING = "PENDING"
        CONFIRMED = "CONFIRMED"
        CANCELLED = "CANCELLED"

    id = models.BigAutoField(primary_key=True)
    type = models.CharField(max_length=8, choices=Type)
    status = models.CharField(max_length=16, choices=Status, default=Status.PENDING)
    original = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="returns")
    store_id = models.BigIntegerField()
    employee_id = models.BigIntegerField(null=True)
    customer_id = models.BigIntegerField()
    payment_id = models.BigIntegerField(null=True)
    payment_method = models.CharField(max_length=64, default="")
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    refunded = models.DecimalField(
        max_digits=12, decimal_places=2, default=0, help_text="of a sale, by finished returns"
    )
    currency = models.CharField(max_length=3, default="EUR")
    reason = models.CharField(max_length=500, default="")
    saga_id = models.CharField(max_length=64, default="")
    created_at = models.DateTimeField(db_default=Now())
    confirmed_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(type="SALE", original=None) | Q(type="RETURN", original__isnull=False),
                name="transactions_return_has_original",
            ),
            models.CheckConstraint(
                condition=Q(refunded__gte=0) & Q(refunded__lte=F("amount")),
                name="transactions_refunded_within_amount",
            ),
            models.CheckConstraint(condition=Q(amount__gte=0), name="transactions_amount_not_negative"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["customer_id", "id"], name="transactions_of_customer"),
            models.Index(
                fields=["created_at", "store_id"],
                condition=Q(status="CONFIRMED"),
                name="transactions_done_by_day",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.pk}: {self.status}"


class TransactionLine(models.Model):
    """So many of one product at this price; `returned` of them are taken back by returns."""

    id = models.BigAutoField(primary_key=True)
    transaction = models.ForeignKey(Transaction, on_delete=models.CASCADE, related_name="lines")
    product_id = models.BigIntegerField()
    quantity = models.BigIntegerField()
    returned = models.BigIntegerField(default=0)
    price = models.DecimalField(max_digits=12, decimal_places=2)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(quantity__gt=0) & Q(price__gte=0), name="transactions_line_positive"
            ),
            models.CheckConstraint(
                condition=Q(returned__gte=0) & Q(returned__lte=F("quantity")),
                name="transactions_returned_within_sold",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} of product {self.product_id} at {self.price}"


class Refund(models.Model):
    """Money given back for a return; at most one that is not reversed for each."""

    class Status(models.TextChoices):
        """DONE until it is reversed."""

        DONE = "DONE"
        REVERSED = "REVERSED"

    id = models.BigAutoField(primary_key=True)
    transaction = models.ForeignKey(Transaction, on_delete=models.PROTECT, related_name="refunds")
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    status = models.CharField(max_length=16, choices=Status, default=Status.DONE)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["transaction"], condition=Q(status="DONE"), name="transactions_no_double_refund"
            ),
        ]

    def __str__(self) -> str:
        return f"refund {self.pk} of {self.amount}: {self.status}"


class BalanceEntry(models.Model):
    """One change of a customer's balance; their sum is the balance."""

    class Kind(models.TextChoices):
        """Why the balance changed."""

        DEPOSIT = "DEPOSIT"
        SALE = "SALE"
        SALE_CANCELLED = "SALE_CANCELLED"
        REFUND = "REFUND"
        REFUND_REVERSED = "REFUND_REVERSED"

    id = models.BigAutoField(primary_key=True)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="entries")
    delta = models.DecimalField(max_digits=12, decimal_places=2)
    kind = models.CharField(max_length=16, choices=Kind)
    transaction = models.ForeignKey(
        Transaction, null=True, on_delete=models.PROTECT, related_name="balance_entries"
    )
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name_plural = "balance entries"

    def __str__(self) -> str:
        return f"{self.kind} {self.delta:+} of customer {self.customer_id}"


class Operation(contract.Operation):
    """The idempotency keys of this participant."""


class Fault(contract.Fault):
    """The faults switched on at this participant."""
