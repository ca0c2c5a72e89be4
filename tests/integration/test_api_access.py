"""Who may see and do what over HTTP, and the users that `seed_users` makes."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import authenticate, get_user_model
from django.core.management import CommandError, call_command
from django.test import Client
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

from sagas.models import SagaEvent
from tests.api import SAGAS, caller, drive, sale, started

pytestmark = pytest.mark.django_db

VERBS = ["execute", "compensate", "retry", "pause"]


def start(client: APIClient) -> Any:
    return client.post(SAGAS, {"type": "sales_saga", "data": sale()}, format="json")


def test_a_client_sees_and_starts_only_its_own() -> None:
    mine, theirs = caller("client"), caller("client", "another")
    saga_id = started(mine)
    assert mine.get(f"{SAGAS}/{saga_id}").status_code == 200
    for path in ("", "/compensations", "/graph"):
        assert theirs.get(f"{SAGAS}/{saga_id}{path}").status_code == 404
    assert theirs.get(SAGAS).json()["count"] == 0
    assert mine.get(SAGAS).json()["count"] == 1
    assert mine.get("/api/saga/list/").json()["count"] == 1
    assert mine.get("/api/admin/sagas/active").status_code == 403


def test_a_client_may_not_steer_and_does_not_learn_of_others() -> None:
    mine, theirs = caller("client"), caller("client", "another")
    saga_id = started(mine)
    drive(saga_id)
    assert [mine.post(f"{SAGAS}/{saga_id}/{verb}").status_code for verb in VERBS] == [200, 403, 403, 403]
    assert [theirs.post(f"{SAGAS}/{saga_id}/{verb}").status_code for verb in VERBS] == [404] * 4


def test_a_viewer_sees_all_and_does_nothing() -> None:
    viewer, client = caller("viewer"), caller("client")
    saga_id = started(client)
    assert viewer.get(f"{SAGAS}/{saga_id}").status_code == 200
    assert viewer.get("/api/admin/sagas/active").json()["count"] == 1
    assert start(viewer).status_code == 403
    assert viewer.post("/api/saga/sales", sale(), format="json").status_code == 403
    assert [viewer.post(f"{SAGAS}/{saga_id}/{verb}").status_code for verb in VERBS] == [403] * 4


def test_an_operator_undoes_what_a_client_began() -> None:
    saga_id = started(caller("client"))
    drive(saga_id)
    answer = caller("operator").post(f"{SAGAS}/{saga_id}/compensate", {"reason": "returned"}, format="json")
    assert (answer.status_code, answer.json()["status"]) == (202, "compensating")
    asked = SagaEvent.objects.get(saga_id=saga_id, kind="compensate")
    assert (asked.actor, asked.reason) == ("operator", "returned")


def test_who_has_no_role_may_do_nothing(django_user_model: Any) -> None:
    nobody = APIClient()
    nobody.force_authenticate(django_user_model.objects.create_user("nobody"))
    assert nobody.get(SAGAS).status_code == 403
    assert start(nobody).status_code == 403


def test_an_inactive_user_is_nobody(django_user_model: Any) -> None:
    user = django_user_model.objects.create_user("gone", is_active=False, is_superuser=True)
    Token.objects.create(user=user, key="token-of-gone")
    assert Client(headers={"Authorization": "Token token-of-gone"}).get(SAGAS).status_code == 401


# --- seed_users -------------------------------------------------------------------------------------


def seed(*arguments: str) -> str:
    out = StringIO()
    call_command("seed_users", *arguments, stdout=out)
    return out.getvalue()


def test_demo_users_speak_with_their_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED_DEMO_USERS", "1")
    monkeypatch.setenv("DEMO_TOKEN_CLIENT", "my-own-token")
    assert "client: Authorization: Token my-own-token" in seed()
    seed()  # harmless to repeat
    statuses = {
        token: Client(headers={"Authorization": f"Token {token}"}).get(SAGAS).status_code
        for token in ("demo-viewer-token", "my-own-token", "demo-operator-token", "demo-client-token")
    }
    assert statuses == {
        "demo-viewer-token": 200, "my-own-token": 200, "demo-operator-token": 200, "demo-client-token": 401,
    }  # fmt: skip
    for name in ("admin", "viewer", "client", "operator"):
        assert authenticate(username=name, password=name) is not None
    assert get_user_model().objects.get(username="admin").is_superuser


def test_demo_users_are_refused_outside_development(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.delenv("SEED_DEMO_USERS", raising=False)
    settings.DEBUG = False
    with pytest.raises(CommandError, match="--groups-only"):
        seed()
    assert seed("--groups-only").strip() == "groups: viewer, client, operator"
    assert not get_user_model().objects.exists()
