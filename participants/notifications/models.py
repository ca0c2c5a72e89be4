"""Messages to customers."""

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from participants.contract import models as contract


class Message(models.Model):
    """One message that was sent; it cannot be unsent, only followed by another."""

    class Kind(models.TextChoices):
        """What the message tells."""

        CONFIRMATION = "CONFIRMATION"
        CANCELLATION = "CANCELLATION"

    id = models.BigAutoField(primary_key=True)
    client_id = models.BigIntegerField()
    order_id = models.BigIntegerField(null=True)
    kind = models.CharField(max_length=16, choices=Kind)
    follows = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="followed_by")
    text = models.CharField(max_length=500)
    saga_id = models.CharField(max_length=64, default="")
    sent_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["client_id", "id"], name="notifications_of_client"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} to client {self.client_id}"


class Operation(contract.Operation):
    """The idempotency keys of this participant."""


class Fault(contract.Fault):
    """The faults switched on at this participant."""
