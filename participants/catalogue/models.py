"""Products and their prices."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from participants.contract import models as contract


class Product(models.Model):
    """Something that is, or was, for sale."""

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=120)
    price = models.DecimalField(max_digits=12, decimal_places=2)
    currency = models.CharField(max_length=3, default="EUR")
    active = models.BooleanField(default=True, help_text="whether it is still sold")

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(price__gte=0), name="catalogue_price_not_negative"),
        ]

    def __str__(self) -> str:
        return self.name


class Operation(contract.Operation):
    """The idempotency keys of this participant."""


class Fault(contract.Fault):
    """The faults switched on at this participant."""
