"""Webhooks that tests register with a receiver, and their deliveries in time."""

from datetime import timedelta
from typing import Any

from django.db.models import F
from django.utils import timezone

from sagas.models import Webhook, WebhookDelivery
from tests.api import caller
from tests.receiving import Receiver

HOOKS = "/api/v1/webhooks"


def add(receiver: Receiver, role: str = "viewer", **more: Any) -> tuple[Webhook, str]:
    answer = caller(role).post(HOOKS, {"url": receiver.url, **more}, format="json")
    assert answer.status_code == 201, answer.content
    return Webhook.objects.get(id=answer.json()["id"]), answer.json()["secret"]


def be_due() -> None:
    """Let every pause be over."""
    past = timezone.now() - timedelta(seconds=1)
    WebhookDelivery.objects.exclude(due_at=None).update(due_at=past)
    Webhook.objects.update(rests_until=None)


def be_older(by: timedelta) -> None:
    """Let deliveries have been found so much earlier."""
    WebhookDelivery.objects.update(created_at=F("created_at") - by)
