"""The one setting, `SAGAS`, with its defaults.

SAGAS = {
    "PARTICIPANTS": {name: {"url": "http://...", "credential": "..."}},
    "RING_AFTER": how long a due step may wait for its message before a scan rings again,
    "LEASE_MARGIN": how much longer than its call's timeout a claim holds,
}
"""

from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed


@dataclass(frozen=True, slots=True)
class Conf:
    """The setting as the engine reads it."""

    participants: dict[str, dict[str, str]]
    ring_after: timedelta = timedelta(seconds=15)
    lease_margin: timedelta = timedelta(seconds=10)


@cache
def conf() -> Conf:
    """The setting, checked.

    Raises:
        ImproperlyConfigured: it has an unknown key or a participant without a URL.
    """
    given: dict[str, Any] = dict(getattr(settings, "SAGAS", {}))
    known = set(Conf.__slots__)
    unknown = [key for key in given if key.lower() not in known]
    if unknown:
        raise ImproperlyConfigured(
            f"SAGAS has unknown keys {unknown}; known: {sorted(name.upper() for name in known)}"
        )
    for name, participant in given.get("PARTICIPANTS", {}).items():
        if not participant.get("url"):
            raise ImproperlyConfigured(f"SAGAS['PARTICIPANTS'][{name!r}] needs a 'url'")
    return Conf(**{"participants": {}, **{key.lower(): value for key, value in given.items()}})


def _forget(setting: str, **_: Any) -> None:
    if setting == "SAGAS":
        conf.cache_clear()


setting_changed.connect(_forget)
