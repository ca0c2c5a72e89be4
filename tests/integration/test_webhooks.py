"""Webhooks: ends found by the scan, and posted to a real receiver."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.utils import timezone

from sagas import engine, outbound, webhooks
from sagas.models import Heartbeat, Webhook, WebhookDelivery
from sagas.tasks import tell
from tests import stories
from tests.engine import counted, plan
from tests.hooks import add, be_due, be_older
from tests.receiving import Receiver

pytestmark = pytest.mark.django_db
# --- Telling ----------------------------------------------------------------------------------------


def test_an_end_is_told_once_and_signed(receiver: Receiver) -> None:
    _, secret = add(receiver)
    state = stories.refused()
    stories.parked()
    tell()
    assert webhooks.scan() == (0, 0)
    ((headers, body),) = receiver.got
    told = json.loads(body)
    assert (told["type"], told["data"]["id"]) == ("saga.compensated", str(state.id))
    assert told["data"]["error"]["code"] == "insufficient_funds"
    signed = f"{headers['Webhook-Id']}.{headers['Webhook-Timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    assert headers["Webhook-Signature"] == f"v1,{expected}"
    delivery = WebhookDelivery.objects.get()
    assert (str(delivery.id), delivery.state, delivery.status_code) == (
        headers["Webhook-Id"],
        "delivered",
        204,
    )
    assert Heartbeat.objects.get(name="webhooks").detail == {"found": 0, "posted": 0}


@pytest.mark.parametrize("hours", [-3, 3])
def test_the_time_that_is_signed_is_the_databases(receiver: Receiver, hours: int) -> None:
    add(receiver)
    stories.completed()
    before = int(engine.clock.now().timestamp())
    with time_machine.travel(timedelta(hours=hours), tick=True):
        webhooks.scan()
    ((headers, _),) = receiver.got
    assert before <= int(headers["Webhook-Timestamp"]) < before + 3600


def test_what_is_not_taken_is_sent_again_with_the_same_id_and_body(receiver: Receiver) -> None:
    hook, _ = add(receiver)
    stories.completed()
    receiver.status = 500
    webhooks.scan()
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.attempts, delivery.error) == ("pending", 1, "answered 500")
    webhooks.scan()  # not before its time
    assert len(receiver.got) == 1
    be_due()
    receiver.status = 200
    webhooks.scan()
    (first, body), (second, again) = receiver.got
    assert (first["Webhook-Id"], body) == (second["Webhook-Id"], again)
    hook.refresh_from_db()
    assert (WebhookDelivery.objects.get().state, hook.failures, hook.rests_until) == ("delivered", 0, None)


def test_a_hook_that_fails_rests_and_others_do_not(receiver: Receiver) -> None:
    hook, _ = add(receiver)
    add(receiver, "operator")
    Webhook.objects.filter(id=hook.id).update(url="http://127.0.0.1:9/")
    for _ in range(2):
        stories.completed()
        webhooks.scan()
    hook.refresh_from_db()
    assert hook.rests_until is not None
    assert hook.deliveries.filter(attempts=0).count() == 1  # waits with the hook, spends nothing
    assert len(receiver.got) == 2


def test_a_surprise_with_one_server_does_not_hold_up_the_others(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    surprising, _ = add(receiver)
    Webhook.objects.filter(id=surprising.id).update(url="https://surprise.example/")
    add(receiver, "operator")
    real = outbound.post

    def post(url: str, *args: Any, **options: Any) -> int:
        if "surprise" in url:
            raise RuntimeError("never seen before")
        return real(url, *args, **options)

    monkeypatch.setattr(outbound, "post", post)
    stories.completed()
    webhooks.scan()
    delivery = surprising.deliveries.get()
    assert (delivery.state, delivery.error) == ("pending", "RuntimeError: never seen before")
    assert len(receiver.got) == 1


@pytest.fixture
def nonsense(receiver: Receiver) -> Iterator[Webhook]:
    """A hook whose server answers what is no text of a database."""
    with Receiver.running() as server:
        server.raw = b"\x00oops\r\n"
        yield add(server, "operator")[0]


def test_what_a_server_answers_is_kept_as_one_line_of_text(receiver: Receiver, nonsense: Webhook) -> None:
    add(receiver)
    stories.completed()
    assert webhooks.scan() == (2, 2)
    delivery = nonsense.deliveries.get()
    assert (delivery.state, delivery.error) == ("pending", "BadStatusLine: oops")
    assert len(receiver.got) == 1


def test_what_cannot_be_noted_ends_no_scan(
    receiver: Receiver, nonsense: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "readable", str)
    add(receiver)
    stories.completed()
    assert webhooks.scan() == (2, 2)
    assert sorted(delivery.state for delivery in WebhookDelivery.objects.all()) == ["delivered", "pending"]
    WebhookDelivery.objects.update(attempts=32767)
    be_due()
    assert webhooks.scan() == (0, 1)


def test_a_slow_server_with_a_backlog_keeps_nobody_waiting(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "SLICE", 60.0)
    others_are_told, slow_had = threading.Event(), []

    def look() -> None:
        if len(receiver.got) == 3:
            slow_had.append(len(slow.got))
            others_are_told.set()

    receiver.before_answering = look
    with Receiver.running() as slow:
        slow.before_answering = lambda: others_are_told.wait(4)
        add(slow)
        for _ in range(9):
            stories.completed()
        webhooks.find()
        add(receiver, "operator")
        for _ in range(3):
            stories.completed()
        assert webhooks.scan() == (6, 15)
        assert slow_had == [webhooks.OF_ONE_HOOK]
        assert len(slow.got) == 12


def test_a_dead_server_is_tried_with_few_and_rests_for_one_failure(receiver: Receiver) -> None:
    hook, _ = add(receiver)
    Webhook.objects.update(url="http://127.0.0.1:9/")
    for _ in range(8):
        stories.completed()
    assert webhooks.scan() == (8, webhooks.OF_ONE_HOOK)
    hook.refresh_from_db()
    assert hook.failures == 1
    assert hook.rests_until is not None
    assert hook.rests_until < engine.clock.now() + timedelta(seconds=3)
    be_due()
    assert webhooks.scan() == (0, 1)


@pytest.mark.parametrize("state", ["inactive", "resting"])
def test_what_nobody_took_in_half_a_day_is_given_up_and_forgotten(receiver: Receiver, state: str) -> None:
    add(receiver)
    stories.completed()
    webhooks.find()
    tomorrow = timezone.now() + timedelta(days=1)
    Webhook.objects.update(
        active=state != "inactive", rests_until=tomorrow if state == "resting" else None, mark=tomorrow
    )
    webhooks.scan()
    assert WebhookDelivery.objects.get().state == "pending"
    be_older(timedelta(hours=13))
    webhooks.scan()
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.error) == ("given up", "there was no attempt in time")
    be_older(webhooks.KEPT)
    webhooks.scan()
    assert not WebhookDelivery.objects.exists()


def test_the_last_attempt_is_at_the_end_of_half_a_day(receiver: Receiver) -> None:
    add(receiver)
    stories.completed()
    receiver.status = 500
    webhooks.find()
    be_older(timedelta(hours=11, minutes=30))
    WebhookDelivery.objects.update(attempts=20)
    webhooks.scan()
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.attempts) == ("pending", 21)
    assert delivery.due_at == delivery.created_at + timedelta(hours=12)


def test_a_scan_reads_of_the_deliveries_what_is_due(receiver: Receiver) -> None:
    hooks = [add(receiver)[0].pk for _ in range(10)]
    Webhook.objects.filter(pk__in=hooks[:3]).update(active=False)
    with connection.cursor() as cursor:
        for due, count, chosen in (
            (None, 10_000, hooks),
            ("1 hour", 8_000, hooks),
            ("-1 hour", 2_000, hooks[:6]),
        ):
            cursor.execute(
                """INSERT INTO sagas_webhookdelivery
                       (id, webhook_id, saga_id, epoch, body, created_at, due_at, attempts, error)
                   SELECT gen_random_uuid(), (%s::bigint[])[1 + n %% %s], gen_random_uuid(), 0, '{}',
                          clock_timestamp(), clock_timestamp() + %s::interval, 0, ''
                   FROM generate_series(1, %s) n""",
                [chosen, len(chosen), due, count],
            )
        cursor.execute("ANALYZE sagas_webhookdelivery")
    asked: list[tuple[str, Any]] = []

    def listen(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        asked.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(listen):
        assert len(webhooks._take(8, hooks[5:])) == 5
        assert (webhooks.give_up(), webhooks.forget()) == (0, 0)
    plans = [plan(*found) for found in asked if "webhookdelivery" in found[0]]
    for text, index in zip(plans, ("due_by_hook", "pending", "settled"), strict=True):
        assert f'"Index Name": "delivery_{index}"' in text, text
        assert not re.search(r'"Seq Scan"[^{}]*"sagas_webhookdelivery"', text), text
        assert max(int(n) for n in re.findall(r'"Shared Hit Blocks": (\d+)', text)) < 300, text


def test_it_is_given_up_in_the_end_and_sent_again_by_hand(receiver: Receiver) -> None:
    add(receiver)
    stories.completed()
    receiver.status = 302  # not followed
    webhooks.scan()
    be_older(timedelta(hours=12))
    for _ in range(2):
        be_due()
        webhooks.scan()
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.due_at, len(receiver.got)) == ("given up", None, 2)
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("olga"))
    page = client.get("/admin/sagas/webhookdelivery/?state=given up").content.decode()
    assert "answered 302" in page
    client.post(
        "/admin/sagas/webhookdelivery/", {"action": "send_again", "_selected_action": str(delivery.id)}
    )
    be_due()
    webhooks.scan()
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts) == ("pending", 1)
    receiver.status = 200
    be_due()
    webhooks.scan()
    delivery.refresh_from_db()
    assert delivery.state == "delivered"


def test_gone_is_never_asked_again(receiver: Receiver) -> None:
    add(receiver)
    stories.completed()
    receiver.status = 410
    webhooks.scan()
    assert WebhookDelivery.objects.get().state == "given up"


def test_each_end_of_one_saga_is_told(receiver: Receiver) -> None:
    add(receiver)
    state = stories.completed()
    webhooks.scan()
    engine.compensate(state.id, actor="olga", reason="returned")
    stories.play(engine.load(state.id), [stories.UNDONE] * 4)
    webhooks.scan()
    assert [json.loads(body)["type"] for _, body in receiver.got] == ["saga.completed", "saga.compensated"]


def test_who_is_told_of_what(receiver: Receiver) -> None:
    mine, _ = add(receiver, "client")
    everything, _ = add(receiver, "viewer")
    others, _ = add(receiver, "operator", types=["return_saga"])
    stories.completed()
    own = stories.play(stories.sale(owner_id=mine.owner_id), stories.SALE)
    webhooks.scan()
    assert [d.saga_id for d in mine.deliveries.all()] == [own.id]
    assert (everything.deliveries.count(), others.deliveries.count()) == (2, 0)
    get_user_model().objects.filter(id=everything.owner_id).update(is_active=False)
    stories.completed()
    webhooks.scan()
    assert everything.deliveries.count() == 2


def test_who_may_not_log_in_is_told_nothing_that_was_found_before(receiver: Receiver) -> None:
    hook, _ = add(receiver)
    stories.completed()
    assert webhooks.find() == 1
    owner = get_user_model().objects.filter(id=hook.owner_id)
    owner.update(is_active=False)
    assert webhooks.deliver() == 0
    assert (receiver.got, hook.deliveries.get().attempts) == ([], 0)
    owner.update(is_active=True)
    assert webhooks.deliver() == 1
    assert len(receiver.got) == 1


def test_only_what_ends_after_the_hook_was_made(receiver: Receiver) -> None:
    stories.completed()
    add(receiver)
    assert webhooks.scan() == (0, 0)


def test_an_end_that_is_committed_late_is_found(receiver: Receiver) -> None:
    hook, _ = add(receiver)
    state = stories.completed()
    Webhook.objects.update(mark=engine.clock.now() + timedelta(seconds=1))
    assert webhooks.find() == 1
    assert webhooks.find() == 0
    assert hook.deliveries.get().saga_id == state.id


def test_many_ends_are_found_in_batches(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "BATCH", 2)
    add(receiver)
    for _ in range(5):
        stories.completed()
    assert webhooks.scan() == (5, 5)
    assert len({headers["Webhook-Id"] for headers, _ in receiver.got}) == 5


def test_nobody_listens_nothing_is_looked_for(receiver: Receiver) -> None:
    stories.completed()
    assert not [sql for sql in counted(webhooks.scan) if "sagas_saga " in sql]


def test_old_deliveries_are_forgotten(receiver: Receiver) -> None:
    add(receiver)
    stories.completed()
    webhooks.scan()
    WebhookDelivery.objects.update(created_at=timezone.now() - timedelta(days=31))
    Webhook.objects.update(mark=timezone.now() + timedelta(hours=1))
    webhooks.scan()
    assert not WebhookDelivery.objects.exists()
