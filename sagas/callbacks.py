"""Tokens by which a slow participant says later what became of an operation (rule 17).

A token names step and generation and is signed, so nothing needs to be stored and nobody can
answer for a step that was not handed to him.
"""

from __future__ import annotations

from uuid import UUID

from django.core import signing

from sagas.conf import conf
from sagas.errors import SagaNotFound
from sagas.state import SagaState

SALT = "sagas.callback"


def callback_url(state: SagaState, position: int) -> str:
    """Where the participant may answer for this step; empty if `SAGAS["CALLBACK_URL"]` is not set."""
    base = conf().callback_url
    if not base:
        return ""
    token = signing.dumps([str(state.id), position, state.steps[position].generation], salt=SALT)
    return f"{base.rstrip('/')}/api/v1/callbacks/{token}"


def read(token: str) -> tuple[UUID, int, int]:
    """The saga, position and generation of a token.

    Raises:
        SagaNotFound: the token was not made here.
    """
    try:
        saga_id, position, generation = signing.loads(token, salt=SALT)
        return UUID(saga_id), int(position), int(generation)
    except (signing.BadSignature, ValueError, TypeError):
        raise SagaNotFound("this callback token was not issued here") from None
