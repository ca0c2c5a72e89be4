"""Customers' accounts, payments, refunds, and the entries that account for balances."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from participants.contract import models as contract


class Account(models.Model):
    """The money of one customer; the customer's id is the account's."""

    id = models.BigAutoField(primary_key=True)
    balance = models.DecimalField(max_digits=12, decimal_places=2, default=0)
    currency = models.CharField(max_length=3, default="EUR")

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(balance__gte=0), name="payments_balance_not_negative"),
        ]

    def __str__(self) -> str:
        return f"account of customer {self.pk}"


class Payment(models.Model):
    """Money taken from an account; `refunded` of it was given back for returns."""

    class Status(models.TextChoices):
        """PAID until the payment as a whole is undone."""

        PAID = "PAID"
        CANCELLED = "CANCELLED"

    id = models.BigAutoField(primary_key=True)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="payments")
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    refunded = models.DecimalField(max_digits=12, decimal_places=2, default=0)
    currency = models.CharField(max_length=3, default="EUR")
    method = models.CharField(max_length=64)
    status = models.CharField(max_length=16, choices=Status, default=Status.PAID)
    saga_id = models.CharField(max_length=64, default="")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="payments_amount_positive"),
            models.CheckConstraint(
                condition=Q(refunded__gte=0) & Q(refunded__lte=F("amount")),
                name="payments_refunded_within_amount",
            ),
        ]

    def __str__(self) -> str:
        return f"payment {self.pk} of {self.amount}: {self.status}"


class Refund(models.Model):
    """Part of a payment given back for a return; at most one that is not reversed for each return."""

    class Status(models.TextChoices):
        """DONE until it is reversed."""

        DONE = "DONE"
        REVERSED = "REVERSED"

    id = models.BigAutoField(primary_key=True)
    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="refunds")
    return_transaction_id = models.BigIntegerField(null=True)
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    status = models.CharField(max_length=16, choices=Status, default=Status.DONE)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["return_transaction_id"],
                condition=Q(status="DONE"),
                name="payments_no_double_refund",
            ),
        ]

    def __str__(self) -> str:
        return f"refund {self.pk} of {self.amount}: {self.status}"


class AccountEntry(models.Model):
    """One change of an account's balance; their sum is the balance."""

    class Kind(models.TextChoices):
        """Why the balance changed."""

        DEPOSIT = "DEPOSIT"
        PAYMENT = "PAYMENT"
        PAYMENT_UNDONE = "PAYMENT_UNDONE"
        REFUND = "REFUND"
        REFUND_REVERSED = "REFUND_REVERSED"

    id = models.BigAutoField(primary_key=True)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="entries")
    payment = models.ForeignKey(Payment, null=True, on_delete=models.PROTECT, related_name="entries")
    delta = models.DecimalField(max_digits=12, decimal_places=2)
    kind = models.CharField(max_length=16, choices=Kind)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name_plural = "account entries"

    def __str__(self) -> str:
        return f"{self.kind} {self.delta:+} of account {self.account_id}"


class Operation(contract.Operation):
    """The idempotency keys of this participant."""


class Fault(contract.Fault):
    """The faults switched on at this participant."""
