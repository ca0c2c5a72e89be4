"""What is stored. Fields, constraints and the vocabulary of queries; every write is in `engine.py`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from django.conf import settings
from django.db import models
from django.db.models import F, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from sagas.fields import StatusField
from sagas.state import ACTIVE, NEEDS_PERSON, Effect, Status, StepStatus

STUCK_AFTER = timedelta(minutes=5)
ACTIVE_VALUES = sorted(status.value for status in ACTIVE)


def choices(enum: type[Status] | type[StepStatus] | type[Effect]) -> list[tuple[str, str]]:
    """Django's choices of one of the engine's enums."""
    return [(member.value, member.value.replace("_", " ")) for member in enum]


def first_id(moment: datetime) -> UUID:
    """The lowest UUIDv7 of that moment: ids are ordered by time, so a range of ids is a range of time."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


class SagaQuerySet(models.QuerySet["Saga"]):
    """The questions that scans, lists and gauges ask."""

    def active(self) -> SagaQuerySet:
        """Moving, or waiting for a worker; the partial index `saga_active` holds just these."""
        return self.filter(status__in=ACTIVE_VALUES)

    def to_wake(self, now: datetime) -> SagaQuerySet:
        """Active ones that nothing has happened to for longer than it should take (rule 7)."""
        return self.active().filter(wake_at__lte=now)

    def overdue(self, now: datetime) -> SagaQuerySet:
        """On their way forward beyond their deadline (rule 20)."""
        return self.active().filter(
            status__in=[Status.PENDING, Status.IN_PROGRESS], deadline_at__lte=now, paused_at=None
        )

    def stuck(self, now: datetime) -> SagaQuerySet:
        """In progress or compensating, and nothing has happened to them for `STUCK_AFTER`.

        The last audit row is looked up for each active saga: NOT EXISTS over the recent ones would
        be planned as a walk through the whole audit.
        """
        since = now - STUCK_AFTER
        last = SagaEvent.objects.filter(saga=OuterRef("pk")).order_by("-id").values("at")[:1]
        moving = self.active().filter(
            status__in=[Status.IN_PROGRESS, Status.COMPENSATING], paused_at=None, id__lte=first_id(since)
        )
        return moving.alias(last_at=Coalesce(Subquery(last), F("created_at"))).filter(last_at__lt=since)

    def needing_a_person(self) -> SagaQuerySet:
        """Parked, forward or backward."""
        return self.filter(status__in=sorted(NEEDS_PERSON))


class Saga(models.Model):
    """One business transaction over several services."""

    id = models.UUIDField(primary_key=True, editable=False)
    type = models.CharField(max_length=80)
    version = models.SmallIntegerField()
    status = StatusField(
        domain="sagas_status", max_length=20, choices=choices(Status), default=Status.PENDING
    )
    epoch = models.IntegerField(default=0, help_text="Changes when the saga turns or a person intervenes.")
    rev = models.IntegerField(default=0, help_text="Changes with every transition.")
    sequence = models.IntegerField(default=0, help_text="How many effects were begun, in order.")
    rings = models.SmallIntegerField(default=0, help_text="How often a scan rang in vain.")
    extensions = models.SmallIntegerField(default=0)
    data = models.JSONField()
    result = models.JSONField(null=True)
    error = models.JSONField(null=True)
    correlation_id = models.CharField(max_length=128)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        on_delete=models.SET_NULL,
        db_constraint=False,
        db_index=False,  # saga_by_owner begins with it
        related_name="+",
    )
    idempotency_key = models.CharField(max_length=255, null=True)  # noqa: DJ001  null is "none given"
    fingerprint = models.CharField(max_length=64, blank=True, default="")
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    deadline_at = models.DateTimeField(null=True)
    paused_at = models.DateTimeField(null=True)
    wake_at = models.DateTimeField(null=True)
    resume_at = models.DateTimeField(null=True, help_text="When a waiting saga must be looked at.")
    retreat_to = models.SmallIntegerField(null=True)
    waiting_since = models.DateTimeField(null=True)
    mailbox = models.JSONField(default=list, help_text="Signals that no step has consumed yet.")
    parent = models.ForeignKey(
        "self", null=True, on_delete=models.PROTECT, db_index=False, related_name="children"
    )
    lock_key = models.CharField(max_length=200, null=True)  # noqa: DJ001  null is "takes no lock"

    objects: ClassVar[Any] = SagaQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-id"]
        # No check constraints where a domain will do, and counters without Django's `>= 0`: every statement
        # that writes would parse them afresh (`StatusField`).
        # Columns that change in every transition (rev, wake_at, sequence) are in no index, so that
        # those updates stay heap-only; the index on active ones is entered and left, not churned.
        # A change of status enters the row into every index anew, so there are no more than are read.
        indexes: ClassVar = [
            models.Index(fields=["id"], condition=Q(status__in=ACTIVE_VALUES), name="saga_active"),
            models.Index(fields=["resume_at"], condition=Q(resume_at__isnull=False), name="saga_waits_until"),
            models.Index(fields=["status", "-id"], name="saga_by_status"),
            models.Index(fields=["type", "-id"], name="saga_by_type"),
            models.Index(fields=["owner", "-id"], name="saga_by_owner"),
            models.Index(fields=["correlation_id"], name="saga_by_correlation"),
            models.Index(fields=["finished_at"], condition=Q(finished_at__isnull=False), name="saga_by_end"),
            models.Index(fields=["parent"], condition=Q(parent__isnull=False), name="saga_children"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["owner", "idempotency_key"],
                condition=Q(idempotency_key__isnull=False),
                name="saga_start_once",
                nulls_distinct=False,
            ),
        ]
        permissions: ClassVar = [
            ("start_saga", "Can start sagas"),
            ("compensate_saga", "Can have a saga undone"),
            ("retry_saga", "Can let a saga go on"),
            ("steer_saga", "Can skip, settle, pause or resolve a saga, and signal to it"),
        ]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.type} {self.id}"


class SagaStep(models.Model):
    """One step of one saga, with its compensation (the `undo_` columns)."""

    saga = models.ForeignKey(Saga, on_delete=models.CASCADE, related_name="steps", db_index=False)
    position = models.SmallIntegerField()
    name = models.CharField(max_length=80)
    status = StatusField(
        domain="sagas_step_status", max_length=20, choices=choices(StepStatus), default=StepStatus.PENDING
    )
    effect = models.CharField(max_length=10, choices=choices(Effect), default=Effect.NONE)
    generation = models.SmallIntegerField(default=0)
    attempts = models.IntegerField(default=0)
    crashes = models.SmallIntegerField(default=0)
    forgiven = models.IntegerField(default=0)
    sequence = models.IntegerField(null=True)
    due_at = models.DateTimeField(null=True)
    lease_until = models.DateTimeField(null=True)
    request = models.JSONField(null=True)
    wait = models.JSONField(null=True)
    result = models.JSONField(null=True)
    error = models.JSONField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    undo_generation = models.SmallIntegerField(default=0)
    undo_attempts = models.IntegerField(default=0)
    undo_crashes = models.SmallIntegerField(default=0)
    undo_forgiven = models.IntegerField(default=0)
    undo_request = models.JSONField(null=True)
    undo_error = models.JSONField(null=True)
    undo_started_at = models.DateTimeField(null=True)
    undo_finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering: ClassVar = ["saga", "position"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["saga", "position"], name="step_once_per_saga"),
            models.CheckConstraint(
                condition=Q(due_at__isnull=True) | Q(lease_until__isnull=True), name="step_due_or_claimed"
            ),
        ]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.name} of {self.saga_id}"


class SagaEvent(models.Model):
    """One row of the audit; a trigger refuses to change or delete it (rule 25)."""

    saga = models.ForeignKey(
        # No constraint: it would look the saga up again for every audit row, and sagas are never deleted.
        Saga,
        on_delete=models.DO_NOTHING,
        related_name="events",
        db_index=False,
        db_constraint=False,
    )
    at = models.DateTimeField()
    kind = models.CharField(max_length=40)
    step = models.CharField(max_length=80, blank=True, default="")
    epoch = models.IntegerField(default=0)
    attempt = models.IntegerField(default=0)
    detail = models.JSONField(default=dict)
    actor = models.CharField(max_length=150, blank=True, default="")
    reason = models.TextField(blank=True, default="")
    request_id = models.CharField(max_length=128, null=True)  # noqa: DJ001  null is "no intervention"

    class Meta:
        ordering: ClassVar = ["id"]
        indexes: ClassVar = [models.Index(fields=["saga", "id"], name="saga_event_history")]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["saga", "request_id"],
                condition=Q(request_id__isnull=False),
                name="intervention_once",
            ),
        ]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.kind} {self.step} of {self.saga_id}"


class SagaLock(models.Model):
    """A place in the queue for a semantic lock; the one that is `held` excludes all others."""

    key = models.CharField(max_length=200)
    saga = models.OneToOneField(Saga, on_delete=models.PROTECT, related_name="lock")
    held = models.BooleanField(default=False)
    since = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["key", "id"]
        indexes: ClassVar = [models.Index(fields=["key", "id"], name="lock_queue")]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["key"], condition=Q(held=True), name="lock_held_once"),
        ]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.key} {'held' if self.held else 'wanted'} by {self.saga_id}"


class TypePause(models.Model):
    """A type of saga that an operator has paused: nothing of it is claimed until it is resumed."""

    type = models.CharField(max_length=80, primary_key=True)
    at = models.DateTimeField()
    actor = models.CharField(max_length=150)
    reason = models.TextField()

    class Meta:
        verbose_name_plural = "types of sagas"
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.type} paused by {self.actor}"


class TypeEvent(models.Model):
    """That a type was paused or resumed, by whom and why; append-only as the audit of a saga is."""

    type = models.CharField(max_length=80)
    at = models.DateTimeField()
    kind = models.CharField(max_length=20, choices=[("paused", "paused"), ("resumed", "resumed")])
    actor = models.CharField(max_length=150)
    reason = models.TextField()

    class Meta:
        ordering: ClassVar = ["-id"]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.type} {self.kind} by {self.actor}"


class CircuitEvent(models.Model):
    """That a participant's circuit was closed by hand, by whom and why; append-only as the other audits."""

    participant = models.CharField(max_length=80)
    at = models.DateTimeField()
    actor = models.CharField(max_length=150)
    reason = models.TextField()

    class Meta:
        ordering: ClassVar = ["-id"]
        default_permissions = ("view",)
        verbose_name = "circuit closed by hand"
        verbose_name_plural = "circuits closed by hand"

    def __str__(self) -> str:
        return f"{self.participant} by {self.actor}"


class Heartbeat(models.Model):
    """When a periodic job last did its work; its age tells a deaf worker or a missing beat."""

    name = models.CharField(max_length=40, primary_key=True)
    at = models.DateTimeField()
    detail = models.JSONField(default=dict)

    class Meta:
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.name} at {self.at:%F %T}"


class BulkRequest(models.Model):
    """An intervention on many sagas that was asked for under an id, and the sagas it found then."""

    request_id = models.CharField(max_length=128, primary_key=True)
    verb = models.CharField(max_length=40)
    actor = models.CharField(max_length=150)
    reason = models.TextField(blank=True, default="")
    fingerprint = models.CharField(max_length=64)
    ids = models.JSONField()
    at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.verb} of {len(self.ids)} sagas by {self.actor}"


class Webhook(models.Model):
    """Where a user wants to be told of ends of sagas: their own, or all if they may see all."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    url = models.CharField(max_length=500)
    secret = models.CharField(max_length=100)
    types = models.JSONField(default=list, blank=True, help_text="Types of sagas; none means all.")
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField()
    mark = models.DateTimeField(help_text="Ends up to here have been looked for.")
    failures = models.PositiveIntegerField(default=0, help_text="In a row.")
    rests_until = models.DateTimeField(null=True)

    class Meta:
        ordering: ClassVar = ["-id"]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.url


class WebhookDelivery(models.Model):
    """One end of one saga to be told to one hook; `due_at` is null once nothing more is to be done."""

    id = models.UUIDField(primary_key=True, editable=False)
    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    saga = models.ForeignKey(
        Saga, on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )
    epoch = models.PositiveIntegerField(help_text="Of the saga at its end; it may end more than once.")
    body = models.TextField()
    created_at = models.DateTimeField()
    due_at = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    status_code = models.PositiveSmallIntegerField(null=True)
    error = models.CharField(max_length=400, blank=True, default="")
    delivered_at = models.DateTimeField(null=True)
    given_up_at = models.DateTimeField(null=True)

    class Meta:
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            models.Index(
                fields=["webhook", "due_at"], condition=Q(due_at__isnull=False), name="delivery_due_by_hook"
            ),
            models.Index(fields=["created_at"], condition=Q(due_at__isnull=False), name="delivery_pending"),
            models.Index(fields=["created_at"], condition=Q(due_at__isnull=True), name="delivery_settled"),
            models.Index(fields=["webhook", "-id"], name="delivery_by_hook"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["webhook", "saga", "epoch"], name="delivery_once"),
        ]
        verbose_name_plural = "webhook deliveries"
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.saga_id} to {self.webhook_id}"

    @property
    def state(self) -> str:
        """Where it stands, in a word."""
        if self.delivered_at is not None:
            return "delivered"
        return "given up" if self.given_up_at is not None else "pending"
