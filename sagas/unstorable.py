"""An answer that cannot be stored is left to a person, not learnt and raised for again and again (rule 8)."""

from __future__ import annotations

from uuid import UUID

import structlog
from django.db import DataError

from sagas.remote import readable
from sagas.state import Impossible

log = structlog.get_logger(__name__)

# PostgreSQL refuses the value, it nests too deeply to be written, or it has no JSON form.
UNSTORABLE = (DataError, RecursionError, TypeError, ValueError)


def unstorable(saga_id: UUID, error: Exception) -> Impossible:
    """What to record instead of an answer whose record raised `error`; nothing of that was written."""
    log.error("an answer could not be stored", saga=str(saga_id), exc_info=error)
    return Impossible("unstorable_answer", readable(f"{type(error).__name__}: {error}"))
