"""The two tables that every participant's database has; each participant makes them concrete."""

from typing import ClassVar

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Operation(models.Model):
    """What became of one idempotency key: effect, key and answer commit together.

    The row of an action is also what its compensation locks and reads; where the compensation
    came first the row is a tombstone and the late action is refused by it.
    """

    class State(models.TextChoices):
        """`started` is seen by nobody else: it is set and left within one transaction."""

        STARTED = "started"
        COMPLETED = "completed"
        REFUSED = "refused"
        UNDONE = "undone"
        TOMBSTONE = "tombstone"

    id = models.BigAutoField(primary_key=True)
    key = models.CharField(max_length=200)
    name = models.CharField(max_length=64, help_text="name of the operation, such as reserve-stock")
    fingerprint = models.CharField(max_length=64, help_text="digest of the request; empty on a tombstone")
    compensates = models.CharField(max_length=200, default="", help_text="key of the action it undoes")
    state = models.CharField(max_length=16, choices=State)
    http_status = models.PositiveSmallIntegerField(default=0)
    answer = models.TextField(default="", help_text="the body that was sent, replayed verbatim")
    saga_id = models.CharField(max_length=64, default="")
    step = models.CharField(max_length=64, default="")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        abstract = True
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["key"], name="%(app_label)s_operation_key"),
            models.CheckConstraint(
                condition=Q(state__in=["started", "tombstone"]) | ~Q(answer=""),
                name="%(app_label)s_operation_answered",
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            BrinIndex(fields=["created_at"], name="%(app_label)s_operation_age"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.key}: {self.state}"


class Fault(models.Model):
    """A misbehaviour to show, for tests and demonstrations; read only where faults are enabled."""

    id = models.BigAutoField(primary_key=True)
    operation = models.CharField(max_length=64, help_text="name of an operation, or * for all")
    kind = models.CharField(max_length=32)
    remaining = models.PositiveIntegerField(null=True, help_text="calls it still hits; null: for ever")
    match = models.JSONField(default=dict, help_text="hits only requests that contain this")
    options = models.JSONField(default=dict, help_text="seconds, code, reason")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.kind} on {self.operation}"
