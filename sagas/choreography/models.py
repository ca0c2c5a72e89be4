"""What is stored. `store.py` and its neighbours write it; three tables are partitioned by date.

The event store and the audit are append-only by trigger; old days are dropped with their partitions.
"""

from __future__ import annotations

from typing import ClassVar, TypeVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

M = TypeVar("M", bound=models.Model)


class Stream(models.Model):
    """One business transaction: what its events have come to, and who may add to it.

    `closed_by` is the event that ended or overtook it: only what follows from that is still taken.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    topic = models.CharField(max_length=120)
    version = models.PositiveIntegerField(default=0)
    status = models.CharField(max_length=40)
    succeeded = models.BooleanField(null=True)
    closed_by = models.UUIDField(null=True)
    client = models.UUIDField(null=True)
    owner_id = models.BigIntegerField(null=True)
    correlation_id = models.CharField(max_length=128)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    deadline_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["deadline_at"], condition=Q(deadline_at__isnull=False), name="choreo_stream_overdue"
            ),
            models.Index(
                fields=["client"], condition=Q(ended_at__isnull=True), name="choreo_stream_open_of_client"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.topic} {self.id}: {self.status}"


class StoredEvent(models.Model):
    """The event store. Partitioned by `at`; never updated, never deleted."""

    position = models.BigAutoField(primary_key=True)
    at = models.DateTimeField()
    event_id = models.UUIDField()
    topic = models.CharField(max_length=120)
    stream = models.UUIDField()
    version = models.PositiveIntegerField()
    type = models.CharField(max_length=80)
    schema_version = models.PositiveSmallIntegerField()
    source = models.CharField(max_length=120)
    correlation_id = models.CharField(max_length=128)
    causation_id = models.UUIDField(null=True)
    client = models.UUIDField(null=True)
    sealed = models.TextField()
    data = models.JSONField()

    class Meta:
        db_table = "choreography_event"
        verbose_name = "event"

    def __str__(self) -> str:
        return f"{self.position}: {self.type} of {self.stream}"


class Inbox(models.Model):
    """Which group has handled which event. Partitioned by `at`, the time of the event."""

    pk = models.CompositePrimaryKey("at", "event_id", "consumer")
    at = models.DateTimeField()
    event_id = models.UUIDField()
    consumer = models.CharField(max_length=80)

    def __str__(self) -> str:
        return f"{self.consumer} handled {self.event_id}"


class AuditEntry(models.Model):
    """The trail that the audit groups write. Partitioned by `at`; append-only."""

    pk = models.CompositePrimaryKey("at", "position")
    at = models.DateTimeField()
    position = models.BigIntegerField()
    event_id = models.UUIDField()
    topic = models.CharField(max_length=120)
    stream = models.UUIDField()
    type = models.CharField(max_length=80)
    source = models.CharField(max_length=120)
    correlation_id = models.CharField(max_length=128)
    causation_id = models.UUIDField(null=True)
    detail = models.TextField()
    recorded_at = models.DateTimeField()

    class Meta:
        verbose_name = "audit entry"
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.position}: {self.type} of {self.stream}"


class Outbox(models.Model):
    """What the relay has still to publish: written with the event, deleted when it is on the stream."""

    position = models.BigIntegerField(primary_key=True)
    at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "outbox"

    def __str__(self) -> str:
        return f"event {self.position}"


class Checkpoint(models.Model):
    """Every event before `at` has been handled by the group; where the search for lost ones begins."""

    consumer = models.CharField(max_length=80, primary_key=True)
    at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.consumer}: {self.at}"


class DeadLetter(models.Model):
    """An event that a group could not handle; the dead-letter stream has a copy.

    `redriven_at` and `redriven_by` also tell of a letter that was settled without; `note` says why, then.
    """

    consumer = models.CharField(max_length=80)
    topic = models.CharField(max_length=120)
    event_id = models.UUIDField()
    event_at = models.DateTimeField()
    position = models.BigIntegerField()
    stream = models.UUIDField()
    type = models.CharField(max_length=80)
    deliveries = models.PositiveSmallIntegerField()
    reason = models.TextField()
    at = models.DateTimeField(db_default=Now())
    redriven_at = models.DateTimeField(null=True)
    redriven_by = models.CharField(max_length=150, default="", blank=True)
    note = models.CharField(max_length=500, default="", db_default="", blank=True)

    class Meta:
        verbose_name = "dead letter"
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["id"], condition=Q(redriven_at__isnull=True), name="choreo_dead_waiting"),
        ]

    def __str__(self) -> str:
        return f"{self.type} of {self.stream} at {self.consumer}"


class ClientKey(models.Model):
    """The key of one client's personal data, and the pseudonym (`id`) that events know the client by.

    `key` is wrapped (see `keys.py`).
    Anonymising takes key and client away; the pseudonym stays, and leads nowhere.
    """

    id = models.UUIDField(primary_key=True)
    client_id = models.BigIntegerField(null=True, unique=True)
    key = models.BinaryField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    destroyed_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(destroyed_at=None, key__isnull=False, client_id__isnull=False)
                | Q(destroyed_at__isnull=False, key=None, client_id=None),
                name="choreo_key_or_destroyed",
            ),
        ]

    def __str__(self) -> str:
        return f"key {self.id}"


class ReadModel(models.Model):
    """Which generation of a read model's rows is the one to read."""

    name = models.CharField(max_length=80, primary_key=True)
    generation = models.PositiveIntegerField(default=1)
    switched_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.name}: generation {self.generation}"


class Generations(models.Manager[M]):
    """Rows of the generation that is live, looked up in the same statement."""

    def get_queryset(self) -> models.QuerySet[M]:
        """The live rows."""
        name = self.model._meta.model_name
        live = ReadModel.objects.filter(name=name).values("generation")
        return super().get_queryset().filter(generation=models.Subquery(live))


class OrdersByClient(models.Model):
    """Read model: what each client has ordered, and the last order."""

    pk = models.CompositePrimaryKey("generation", "client_id")
    generation = models.PositiveIntegerField()
    client_id = models.BigIntegerField()
    total_orders = models.PositiveIntegerField()
    last_position = models.BigIntegerField()
    last_order_id = models.BigIntegerField()
    last_checkout_id = models.UUIDField()
    last_update_ts = models.DateTimeField()

    objects: ClassVar[models.Manager[OrdersByClient]] = models.Manager()
    live = Generations()

    def __str__(self) -> str:
        return f"client {self.client_id}: {self.total_orders} orders"


class RevenueByStoreDay(models.Model):
    """Read model: orders and revenue per store, day (UTC) and currency."""

    pk = models.CompositePrimaryKey("generation", "store_id", "day", "currency")
    generation = models.PositiveIntegerField()
    store_id = models.BigIntegerField()
    day = models.DateField()
    currency = models.CharField(max_length=3)
    orders = models.PositiveIntegerField()
    revenue = models.DecimalField(max_digits=14, decimal_places=2)

    objects: ClassVar[models.Manager[RevenueByStoreDay]] = models.Manager()
    live = Generations()

    def __str__(self) -> str:
        return f"store {self.store_id} on {self.day}: {self.revenue} {self.currency}"
