"""What people may do to one saga: an endpoint for every verb of `interventions.VERBS`."""

from __future__ import annotations

import hashlib
from uuid import UUID

from drf_spectacular.utils import extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response

from sagas import engine
from sagas.api import access, bell, schema
from sagas.api.preferences import idempotency_key, preference
from sagas.api.requests import InterventionBody, OwnWishBody, intervention_body, validated
from sagas.api.views import Endpoint, saga_response
from sagas.errors import InvalidInput, SagaNotFound
from sagas.interventions import VERBS, Verb, Wish
from sagas.models import Saga

MAX_REQUEST_ID = 128


class InterventionView(Endpoint):
    """One verb on one saga; repeating it under the same key is harmless."""

    verb: Verb
    body: type[InterventionBody | OwnWishBody]

    def post(self, request: Request, saga_id: UUID) -> Response:
        """Check, call the engine, ring, answer."""
        access.require_visible(request.user, saga_id)
        access.require(request.user, f"sagas.{self.verb.permission}")
        asked = validated(self.body, request.data).model_dump()
        progress = engine.intervene(
            saga_id,
            self.verb.name,
            actor=request.user.get_username(),
            reason=asked.pop("reason") or self.untold(request, saga_id),
            request_id=self.request_id(request),
            wish=Wish(**asked),
        )
        if progress.state is None:
            raise SagaNotFound(f"there is no saga {saga_id}")
        bell.ring(progress.state, progress.due)
        return saga_response(progress.state, preference(request.headers.get("Prefer", "")))

    def untold(self, request: Request, saga_id: UUID) -> str:
        """What the audit has as the reason of those who need not tell one.

        Raises:
            SagaNotFound: there is no such saga.
            InvalidInput: it is somebody else's.
        """
        owner = Saga.objects.filter(pk=saga_id).values_list("owner_id").first()
        if owner is None:
            raise SagaNotFound(f"there is no saga {saga_id}")
        if owner == (request.user.pk,):
            return "asked for by its owner"
        if self.verb.name == "execute":
            return "told to run"
        raise InvalidInput([{"field": "reason", "message": "Say why: the saga is not yours"}])

    def request_id(self, request: Request) -> str | None:
        """The caller's key as the audit keeps it: one person's key for one verb is not another's."""
        key = idempotency_key(request.headers)
        if key is None:
            return None
        scoped = f"{request.user.pk}:{self.verb.name}:{key}"
        return scoped if len(scoped) <= MAX_REQUEST_ID else hashlib.sha256(scoped.encode()).hexdigest()


def steering(name: str) -> type[InterventionView]:
    """The view of one verb."""
    verb = VERBS[name]
    body = intervention_body(verb)
    view = type(f"{name.title().replace('-', '')}View", (InterventionView,), {"verb": verb, "body": body})
    described: type[InterventionView] = extend_schema_view(post=schema.intervention(verb, body))(view)
    return described
