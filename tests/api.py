"""What tests of the API share: callers by role, a sale to ask for, and an engine that is driven by hand."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.management import call_command
from rest_framework.test import APIClient

from sagas import engine
from sagas.definition import registry
from sagas.state import Done, Outcome, SagaState

SAGAS = "/api/v1/sagas"
SALE: Mapping[str, Any] = {
    "store_id": 1,
    "employee_id": 1,
    "customer_id": 123,
    "items": [{"product_id": 456, "quantity": 2, "price": 29.99}],
    "payment_method": "credit_card",
}
RESULT = {"session_id": 1, "reservation_id": 2, "transaction_id": 3}


def sale(**changes: Any) -> dict[str, Any]:
    """The input of a sale."""
    return {**deepcopy(dict(SALE)), **changes}


def caller(role: str, name: str = "") -> APIClient:
    """A client that speaks as a user of that role's group; `name` tells several of one role apart."""
    call_command("seed_users", "--groups-only", stdout=StringIO())
    user, _ = get_user_model().objects.get_or_create(username=name or role)
    user.groups.add(Group.objects.get(name=role))
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(user)
    return client


def started(client: APIClient, *, execute: bool = True, **changes: Any) -> UUID:
    """The id of a sale that this client has started, or created only."""
    body = {"type": "sales_saga", "data": sale(**changes), "execute": execute}
    answer = client.post(SAGAS, body, format="json")
    assert answer.status_code == 202, answer.content
    return UUID(answer.json()["id"])


def drive(saga_id: UUID, outcomes: Mapping[str, Outcome] | None = None, steps: int = 100) -> SagaState:
    """Do a worker's work, at most `steps` steps of it; what is not in `outcomes` is done."""
    state = engine.load(saga_id)
    definition = registry.get(state.type, state.version)
    for _ in range(steps):
        due = engine.due_positions(state)
        if not due:
            break
        claimed = engine.claim(saga_id, due[0], state.epoch, timedelta(seconds=30))
        if claimed is None:  # not before its pause is over
            break
        declared = definition.steps[due[0]]
        name = declared.undo.name if claimed.backward and declared.undo else declared.name
        outcome = (outcomes or {}).get(name, Done(RESULT))
        progress = engine.record(definition, claimed, due[0], outcome)
        assert progress.state is not None
        state = progress.state
    return state
