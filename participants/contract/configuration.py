"""What a participant reads from the settings: the one dictionary `PARTICIPANTS`.

`CREDENTIALS` (list of accepted service credentials), `RETENTION` (timedelta, of idempotency keys),
`FAULTS` (bool), `SERVED` (names); optional `OWN_CREDENTIALS` and `CREDENTIAL_FILES` (list and path by
participant), `RESERVATION_HOLD` and `RETURN_PERIOD` (timedelta).
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import cast

from django.conf import settings


def setting(name: str) -> object:
    """The value in PARTICIPANTS, read afresh so that it can be overridden."""
    known: Mapping[str, object] = settings.PARTICIPANTS
    return known[name]


def duration(name: str, default: timedelta) -> timedelta:
    """An optional time span."""
    known: Mapping[str, object] = settings.PARTICIPANTS
    return cast(timedelta, known.get(name, default))


def common_credentials() -> Sequence[str]:
    """The service credentials of every participant that has none of its own."""
    return cast(Sequence[str], setting("CREDENTIALS"))


def own_credentials(participant: str) -> Sequence[str]:
    """The service credentials of this participant alone."""
    known: Mapping[str, object] = settings.PARTICIPANTS
    return cast(Mapping[str, Sequence[str]], known.get("OWN_CREDENTIALS", {})).get(participant, ())


def credential_file(participant: str) -> str:
    """Where this participant's credentials are kept; empty if they are in the settings."""
    known: Mapping[str, object] = settings.PARTICIPANTS
    return cast(Mapping[str, str], known.get("CREDENTIAL_FILES", {})).get(participant, "")


def retention() -> timedelta:
    """How long an idempotency key is kept."""
    return cast(timedelta, setting("RETENTION"))


def faults_enabled() -> bool:
    """Whether misbehaviour may be switched on."""
    return bool(setting("FAULTS"))


def served_names() -> Sequence[str]:
    """The participants that this process serves."""
    return cast(Sequence[str], setting("SERVED"))
