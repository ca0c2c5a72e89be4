"""Webhooks as their owners and operators see them: over the API, and in the admin."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from sagas import webhooks
from sagas.models import WebhookDelivery
from tests import stories
from tests.api import caller
from tests.hooks import HOOKS, add
from tests.receiving import Receiver

pytestmark = pytest.mark.django_db


def test_a_user_adds_sees_and_removes_their_own(receiver: Receiver) -> None:
    hook, secret = add(receiver, "client", types=["sales_saga"])
    client, other = caller("client"), caller("client", "other")
    (shown,) = client.get(HOOKS).json()["results"]
    assert (shown["url"], shown["types"]) == (receiver.url, ["sales_saga"])
    assert secret not in client.get(f"{HOOKS}/{hook.id}").content.decode()
    assert other.get(HOOKS).json()["results"] == []
    for path in (f"{HOOKS}/{hook.id}", f"{HOOKS}/{hook.id}/deliveries"):
        assert other.get(path).status_code == 404
    assert other.delete(f"{HOOKS}/{hook.id}").status_code == 404
    stories.play(stories.sale(owner_id=hook.owner_id), stories.SALE)
    webhooks.scan()
    (told,) = client.get(f"{HOOKS}/{hook.id}/deliveries").json()["results"]
    assert (told["state"], told["attempts"], told["status_code"]) == ("delivered", 1, 204)
    assert client.delete(f"{HOOKS}/{hook.id}").status_code == 204
    assert not WebhookDelivery.objects.exists()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "http://example.com/"}, "url"),
        ({"url": "https://me:pw@example.com/"}, "url"),
        ({"url": "ftp://example.com/"}, "url"),
        ({"url": "https://"}, "url"),
        ({"url": "https://example.com:99999/"}, "url"),
        ({"url": "https://example.com/", "types": ["nothing"]}, "types.0"),
        ({"url": "https://example.com/", "secret": "short"}, "secret"),
        ({}, "url"),
    ],
)
def test_a_wrong_hook_is_refused(body: dict[str, Any], field: str) -> None:
    answer = caller("client").post(HOOKS, body, format="json")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)


def test_hooks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sagas.api.hooks.EACH", 1)
    client = caller("client")
    assert [client.post(HOOKS, {"url": "https://example.com/"}, format="json").status_code
            for _ in range(2)] == [201, 400]  # fmt: skip


def test_the_admin_shows_hooks_without_their_secrets(receiver: Receiver) -> None:
    hook, secret = add(receiver)
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("olga"))
    for path in ("/admin/sagas/webhook/", f"/admin/sagas/webhook/{hook.id}/change/"):
        page = client.get(path)
        assert page.status_code == 200
        assert receiver.url.encode() in page.content
        assert secret.encode() not in page.content
