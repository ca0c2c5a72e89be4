"""The API under the environment of its container: it is healthy by any name, and logs in over TLS."""

from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from stack.servers import ServerUrls
from tests.composing import REQUIRED, environment_of
from tests.serving import served, url_of

pytestmark = pytest.mark.django_db(transaction=True)
HOST = "sagas.example"
LOGIN = "/admin/login/"
# What a proxy that ends TLS hands on.
BY_PROXY = {"Host": HOST, "X-Forwarded-Proto": "https", "Origin": f"https://{HOST}"}


@pytest.fixture
def port(transactional_db: None, servers: ServerUrls) -> Iterator[int]:
    """Where an API answers as the container `api` does behind TLS."""
    given = REQUIRED | {"DJANGO_ALLOWED_HOSTS": HOST, "DJANGO_BEHIND_TLS": "1"}
    addresses = {"DATABASE_URL": url_of("default"), "REDIS_URL": servers.redis}
    # The server itself believes a proxy on its own machine; that of a container is elsewhere.
    apart = {"FORWARDED_ALLOW_IPS": "192.0.2.1"}
    environment = environment_of("api", given) | addresses | apart
    with served("sagaproject.wsgi:application", environment) as (url, _):
        yield urlsplit(url).port or 0


def ask(
    port: int, method: str, path: str, headers: Mapping[str, str], body: str | None = None
) -> tuple[int, SimpleCookie]:
    """Status and cookies of one answer."""
    link = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        link.request(method, path, body, dict(headers))
        answer = link.getresponse()
        cookies = SimpleCookie()
        for line in answer.headers.get_all("Set-Cookie", []):
            cookies.load(line)
        return answer.status, cookies
    finally:
        link.close()


def test_the_api_is_healthy_by_its_own_names_and_logs_in_over_tls(port: int) -> None:
    get_user_model().objects.create_superuser("ada", password="engine")
    for name in ("127.0.0.1", "api", "api-2", HOST):
        assert ask(port, "GET", "/health/ready", {"Host": f"{name}:8000"})[0] == 200
    assert ask(port, "GET", "/health/ready", {"Host": "elsewhere.example"})[0] == 400

    shown, cookies = ask(port, "GET", LOGIN, BY_PROXY)
    token = cookies["csrftoken"]
    form = {"username": "ada", "password": "engine", "csrfmiddlewaretoken": token.value}
    sent = {
        **BY_PROXY,
        "Cookie": f"csrftoken={token.value}",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    status, session = ask(port, "POST", LOGIN, sent, urlencode(form))
    assert (shown, status) == (200, 302)
    assert token["secure"]
    assert session["sessionid"]["secure"]


def test_cookies_go_over_plain_http_where_nothing_is_said_of_tls(client: Client) -> None:
    assert not client.get(LOGIN, headers={"Host": "localhost"}).cookies["csrftoken"]["secure"]
