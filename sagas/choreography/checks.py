"""System checks of the choreography; each carries its mend as a hint."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error, register

from sagas.choreography.conf import KEYS_MEND, conf


@register
def keys_given(**_: Any) -> list[CheckMessage]:
    """Without a secret no client's key could be stored, and so no event."""
    if conf().keys:
        return []
    return [Error("CHOREOGRAPHY['KEYS'] is empty.", hint=KEYS_MEND, id="choreography.E001")]
