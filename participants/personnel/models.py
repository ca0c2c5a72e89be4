"""Employees, their permissions, work sessions and shifts."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from participants.contract import models as contract


class Employee(models.Model):
    """Somebody who works in the stores, and what they are allowed to do there."""

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=120)
    active = models.BooleanField(default=True)
    may_sell = models.BooleanField(default=False)
    may_return = models.BooleanField(default=False)
    may_transfer = models.BooleanField(default=False)

    def __str__(self) -> str:
        return self.name

    def may(self, action: str) -> bool:
        """Whether the employee is allowed to `action`: sell, return or transfer."""
        return {"sell": self.may_sell, "return": self.may_return, "transfer": self.may_transfer}[action]


class WorkSession(models.Model):
    """The time in which an employee acts on one business transaction."""

    class Status(models.TextChoices):
        """`open` until it is invalidated."""

        OPEN = "OPEN"
        INVALIDATED = "INVALIDATED"

    id = models.BigAutoField(primary_key=True)
    employee = models.ForeignKey(Employee, on_delete=models.PROTECT, related_name="sessions")
    store_id = models.BigIntegerField(null=True)
    action = models.CharField(max_length=16)
    status = models.CharField(max_length=16, choices=Status, default=Status.OPEN)
    opened_at = models.DateTimeField(db_default=Now())
    closed_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(status="OPEN", closed_at=None) | Q(status="INVALIDATED", closed_at__isnull=False),
                name="personnel_session_closed_with_time",
            ),
        ]

    def __str__(self) -> str:
        return f"session {self.pk} of employee {self.employee_id}: {self.status}"


class Shift(models.Model):
    """When an employee works in a store, week by week; weekday 0 is Monday."""

    id = models.BigAutoField(primary_key=True)
    employee = models.ForeignKey(Employee, on_delete=models.CASCADE, related_name="shifts")
    store_id = models.BigIntegerField()
    weekday = models.PositiveSmallIntegerField()
    starts_at = models.TimeField()
    ends_at = models.TimeField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["store_id", "weekday", "employee"], name="personnel_one_shift_a_day"
            ),
            models.CheckConstraint(condition=Q(weekday__lte=6), name="personnel_shift_weekday"),
            models.CheckConstraint(
                condition=Q(ends_at__gt=F("starts_at")), name="personnel_shift_ends_after_start"
            ),
        ]

    def __str__(self) -> str:
        return f"employee {self.employee_id} in store {self.store_id} on weekday {self.weekday}"


class Operation(contract.Operation):
    """The idempotency keys of this participant."""


class Fault(contract.Fault):
    """The faults switched on at this participant."""
