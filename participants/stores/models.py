"""Stores."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from participants.contract import models as contract


class Store(models.Model):
    """A place where goods are sold."""

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=120)
    city = models.CharField(max_length=120)
    opens_at = models.TimeField()
    closes_at = models.TimeField()
    active = models.BooleanField(default=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(closes_at__gt=F("opens_at")), name="stores_closes_after_it_opens"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Operation(contract.Operation):
    """The idempotency keys of this participant."""


class Fault(contract.Fault):
    """The faults switched on at this participant."""
