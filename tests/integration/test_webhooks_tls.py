"""Webhooks to a real https server: whose certificate is believed, and where the connection goes."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from sagas import dispatch, outbound, webhooks
from sagas.models import Webhook, WebhookDelivery
from sagas.outbound import Forbidden, Unanswered
from tests import stories
from tests.api import caller
from tests.tls import Authority, Shop, serving

HOST = "shop.example"
OURS, OTHER = "127.0.0.1", "127.0.0.2"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "trusted")


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """An authority that this machine trusts, as operators would have it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    return authority


class Names:
    """What names resolve to, in place of the real ones: each answer once, the last for ever."""

    def __init__(self, answers: Mapping[str, list[str]]) -> None:
        self.answers = {name: list(addresses) for name, addresses in answers.items()}
        self.real = socket.getaddrinfo
        self.asked: list[str] = []

    def __call__(self, host: str, port: int, *args: Any, **options: Any) -> Any:
        if host in self.answers:
            self.asked.append(host)
            known = self.answers[host]
            host = known.pop(0) if len(known) > 1 else known[0]
        return self.real(host, port, *args, **options)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    found = Names({HOST: [OURS], "other.example": [OURS]})
    monkeypatch.setattr(socket, "getaddrinfo", found)
    return found


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def post(port: int, host: str = HOST, *, private: bool = True) -> int:
    return outbound.post(
        f"https://{host}:{port}/ends", b"{}", {"Webhook-Id": "1"}, timeout=5, private=private
    )


@pytest.mark.parametrize("host", [HOST, OURS])
@pytest.mark.usefixtures("names")
def test_a_server_with_the_right_certificate_is_told(
    trusted: Authority, opened: ExitStack, host: str
) -> None:
    shop = opened.enter_context(serving(Shop(trusted.certificate(host))))
    assert post(shop.port, host) == 204
    ((headers, body),) = shop.got
    assert (headers["Host"], headers["Webhook-Id"], body) == (f"{host}:{shop.port}", "1", b"{}")
    assert shop.names == [HOST if host == HOST else None]


@pytest.mark.parametrize(
    ("host", "lasts", "why"),
    [
        ("other.example", timedelta(days=1), "match"),
        ("*.shop.example", timedelta(days=1), "match"),
        (OTHER, timedelta(days=1), "match"),
        (HOST, timedelta(days=-1), "expired"),
    ],
)
@pytest.mark.usefixtures("names")
def test_a_certificate_of_another_or_of_yesterday_is_not_believed(
    trusted: Authority, opened: ExitStack, host: str, lasts: timedelta, why: str
) -> None:
    shop = opened.enter_context(serving(Shop(trusted.certificate(host, lasts))))
    with pytest.raises(Unanswered, match=why):
        post(shop.port)
    assert (shop.connections, shop.got) == (1, [])


@pytest.mark.usefixtures("names", "trusted")
def test_an_authority_that_nobody_knows_is_not_believed(tmp_path: Path, opened: ExitStack) -> None:
    shop = opened.enter_context(serving(Shop(Authority(tmp_path, "unknown").certificate(HOST))))
    with pytest.raises(Unanswered, match="CERTIFICATE_VERIFY_FAILED"):
        post(shop.port)
    assert shop.got == []


@pytest.mark.parametrize("host", [HOST, OURS, "localhost"])
@pytest.mark.usefixtures("names")
def test_a_private_server_is_not_even_connected_to_unless_allowed(
    trusted: Authority, opened: ExitStack, host: str
) -> None:
    shop = opened.enter_context(serving(Shop(trusted.certificate(host))))
    with pytest.raises(Forbidden, match="private network"):
        post(shop.port, host, private=False)
    assert shop.connections == 0


def test_a_name_that_answers_otherwise_a_moment_later_gains_nothing(
    trusted: Authority, opened: ExitStack, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbound, "public", lambda address: str(address) == OURS)
    certificate = trusted.certificate(HOST)
    shop = opened.enter_context(serving(Shop(certificate)))
    inside = opened.enter_context(serving(Shop(certificate, OTHER, shop.port)))
    names.answers[HOST] = [OURS, OTHER]
    assert post(shop.port, private=False) == 204
    assert (shop.connections, inside.connections, names.asked) == (1, 0, [HOST])
    with pytest.raises(Forbidden, match="private network"):
        post(shop.port, private=False)
    assert inside.connections == 0


@pytest.mark.django_db
@pytest.mark.usefixtures("names")
def test_a_delivery_waits_until_the_certificate_is_in_order(
    authority: Authority, opened: ExitStack, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setattr(dispatch, "_send", lambda state, due, now: None)
    settings.SAGAS = settings.SAGAS | {"WEBHOOKS_PRIVATE": True}
    shop = opened.enter_context(serving(Shop(authority.certificate(HOST))))
    hook = {"url": f"https://{HOST}:{shop.port}/ends"}
    assert caller("viewer").post("/api/v1/webhooks", hook, format="json").status_code == 201
    stories.completed()
    webhooks.scan()
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.attempts, shop.got) == ("pending", 1, [])
    assert "CERTIFICATE_VERIFY_FAILED" in delivery.error
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    WebhookDelivery.objects.update(due_at=delivery.created_at)
    Webhook.objects.update(rests_until=None)
    webhooks.scan()
    delivery.refresh_from_db()
    assert (delivery.state, len(shop.got)) == ("delivered", 1)
