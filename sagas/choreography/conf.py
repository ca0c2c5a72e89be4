"""The one setting, `CHOREOGRAPHY`, with its defaults.

CHOREOGRAPHY = {
    "KEYS": secrets that clients' keys are wrapped with, the newest first; the first wraps, all open,
    "REDIS_URL": where the streams are; default: as the engine's,
    "CALL_TIMEOUT": how long one call to a participant may take,
    "CLAIM_AFTER": when an event that a consumer took and never acknowledged goes to another one;
                   above twice CALL_TIMEOUT, since a reaction may call twice,
    "BACKOFF": pause before the first redelivery; it doubles with each,
    "REDELIVERIES": how many there are before an event goes to the dead letters,
    "UNDOING": how old an event becomes before that while what it undoes gets no definite answer; where
               the participant says that it did nothing, or cannot be reached, there is no limit,
    "TIMEOUT": how long a stream may wait for its next event, in place of what its topic says,
    "RETENTION": how long events are kept, at least 30 days,
    "AHEAD": how far ahead partitions are made,
    "UPKEEP": how often the relay looks for overdue streams and lost events,
}
"""

from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from sagas.conf import conf as engine_conf

LEAST_RETENTION = timedelta(days=30)
LEAST_SECRET = 32
KEYS_MEND = (
    "Set CHOREOGRAPHY['KEYS'] (EVENT_KEYS) to a secret of at least 32 random characters, such as"
    " `python -c 'import secrets; print(secrets.token_urlsafe(48))'` prints, and keep it:"
    " without it personal data in events is lost."
)


@dataclass(frozen=True, slots=True)
class Conf:
    """The setting as the mechanism reads it."""

    redis_url: str
    keys: tuple[str, ...] = ()
    call_timeout: timedelta = timedelta(seconds=5)
    claim_after: timedelta = timedelta(seconds=15)
    backoff: timedelta = timedelta(seconds=1)
    redeliveries: int = 3
    undoing: timedelta = timedelta(hours=1)
    timeout: timedelta | None = None
    retention: timedelta = timedelta(days=90)
    ahead: timedelta = timedelta(days=14)
    upkeep: timedelta = timedelta(seconds=1)


@cache
def conf() -> Conf:
    """The setting, checked.

    Raises:
        ImproperlyConfigured: it has an unknown key, keeps events for less than 30 days, or has a
            secret that could be guessed.
    """
    given: dict[str, Any] = dict(getattr(settings, "CHOREOGRAPHY", {}))
    unknown = [key for key in given if key.lower() not in Conf.__slots__]
    if unknown:
        names = sorted(name.upper() for name in Conf.__slots__)
        raise ImproperlyConfigured(f"CHOREOGRAPHY has unknown keys {unknown}; known: {names}")
    values: dict[str, Any] = {key.lower(): value for key, value in given.items()}
    values.setdefault("redis_url", engine_conf().redis_url)
    values["keys"] = tuple(values.get("keys", ()))
    found = Conf(**values)
    if found.retention < LEAST_RETENTION:
        raise ImproperlyConfigured(f"CHOREOGRAPHY['RETENTION'] must be at least {LEAST_RETENTION.days} days")
    if any(len(secret) < LEAST_SECRET for secret in found.keys):
        raise ImproperlyConfigured(f"CHOREOGRAPHY['KEYS'] has a secret that is too short. {KEYS_MEND}")
    return found


def _forget(setting: str, **_: Any) -> None:
    if setting in ("CHOREOGRAPHY", "SAGAS"):
        conf.cache_clear()


setting_changed.connect(_forget)
