"""What the outside says to a saga: signals and approvals of people and systems, callbacks of participants."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from pydantic import ConfigDict, Field, JsonValue
from rest_framework.request import Request
from rest_framework.response import Response

from sagas import callbacks, engine
from sagas.api import access, bell, schema
from sagas.api.answers import Answer
from sagas.api.preferences import idempotency_key, preference
from sagas.api.requests import RequestBody, validated
from sagas.api.views import Endpoint, rendered, saga_response
from sagas.state import Done, Refused

MAX_SIGNAL_ID = 120


class SignalBody(RequestBody):
    """What comes with a signal; that of an approval is `{"approved": true}`, or false with a `reason`."""

    data: JsonValue = None


class CallbackBody(RequestBody):
    """What a participant answers for an operation it took up with 202: the envelope of any operation."""

    model_config = ConfigDict(extra="ignore")

    status: Literal["success", "failed"]
    data: JsonValue = None
    code: Annotated[str, Field(max_length=80)] = "refused"
    reason: Annotated[str, Field(max_length=1000)] = ""


class CallbackAnswer(Answer):
    """The word was taken."""

    status: Literal["success"] = "success"


class SignalView(Endpoint):
    """Tell a saga something that one of its steps waits for, or will wait for."""

    @schema.signal(SignalBody)
    def post(self, request: Request, saga_id: UUID, name: str) -> Response:
        """Deliver a signal or an approval; under the same key it counts once."""
        access.require_visible(request.user, saga_id)
        access.require(request.user, access.STEER)
        body = validated(SignalBody, request.data)
        progress = engine.signal(
            saga_id, name, body.data, signal_id=signal_id(request), actor=request.user.get_username()
        )
        state = progress.state if progress.state is not None else engine.load(saga_id)
        bell.ring(state, progress.due)
        return saga_response(state, preference(request.headers.get("Prefer", "")))


class CallbackView(Endpoint):
    """Where a slow participant says what became of an operation; the token in the path is its credential."""

    authentication_classes = ()
    permission_classes = ()

    @schema.callback(CallbackBody, CallbackAnswer)
    def post(self, request: Request, token: str) -> Response:
        """Take a participant's late answer; one that comes too late, or twice, is 409 and changes nothing."""
        saga_id, position, generation = callbacks.read(token)
        body = validated(CallbackBody, request.data)
        progress = engine.resolved(saga_id, position, generation, outcome_of(body))
        if progress.state is not None:
            bell.ring(progress.state, progress.due)
        return rendered(CallbackAnswer())


def outcome_of(body: CallbackBody) -> Done | Refused:
    """A callback's envelope as an outcome."""
    data: Any = body.data
    return Done(data) if body.status == "success" else Refused(body.code, body.reason)


def signal_id(request: Request) -> str:
    """What makes a signal count once: the caller's key, or one of its own for every request."""
    key = idempotency_key(request.headers)
    if key is None:
        return str(uuid4())
    scoped = f"{request.user.pk}:{key}"
    return scoped if len(scoped) <= MAX_SIGNAL_ID else hashlib.sha256(scoped.encode()).hexdigest()
