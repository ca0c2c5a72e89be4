"""The one setting, `SAGAS`, with its defaults.

SAGAS = {
    "PARTICIPANTS": {name: {"url": "http://a,http://b",  # several: the next if one cannot be reached
                            "credential": "...",         # or "credential_file", read again on change
                            "max_concurrent": 0, "max_per_second": 0,  # 0: no limit
                            "key_retention": timedelta(days=30)}},     # how long it keeps keys
    "RING_AFTER": how long a due step may wait for its message before a scan rings again,
    "LEASE_MARGIN": how much longer than its call's timeout a claim holds,
    "RECOVERY_PERIOD", "TIMEOUT_PERIOD": how often beat scans for interrupted and overdue sagas,
    "TIME_SLICE": how long a worker goes on with one inline saga before others get their turn,
    "BREAKER": {"failures": 5, "window": timedelta(seconds=60), "recovery": timedelta(seconds=30)},
    "REDIS_URL": where circuits and limits are shared; default: Celery's broker,
    "CALLBACK_URL": this API as participants reach it, for callbacks of slow operations,
    "WEBHOOK_PERIOD": how often beat looks for ends of sagas to tell, and tells them,
    "WEBHOOKS_PRIVATE": whether users' webhooks may lie in a private network, and be plain http,
    "WORKER_METRICS_PORT": where a worker serves its metrics; 0: it does not,
    "WORKER_METRICS_ADDRESS": and on which interface; default: this machine alone,
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
class BreakerRules:
    """When a circuit opens: `failures` within `window`; it is probed after `recovery`."""

    failures: int = 5
    window: timedelta = timedelta(seconds=60)
    recovery: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Conf:
    """The setting as the engine reads it."""

    participants: dict[str, dict[str, Any]]
    redis_url: str = ""
    ring_after: timedelta = timedelta(seconds=15)
    lease_margin: timedelta = timedelta(seconds=10)
    recovery_period: timedelta = timedelta(seconds=10)
    timeout_period: timedelta = timedelta(seconds=60)
    time_slice: timedelta = timedelta(seconds=5)
    breaker: BreakerRules = BreakerRules()
    callback_url: str = ""
    webhook_period: timedelta = timedelta(seconds=5)
    webhooks_private: bool = False
    worker_metrics_port: int = 0
    worker_metrics_address: str = "127.0.0.1"


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
    values: dict[str, Any] = {key.lower(): value for key, value in given.items()}
    values["breaker"] = BreakerRules(**values.get("breaker", {}))
    values.setdefault("redis_url", getattr(settings, "CELERY_BROKER_URL", "redis://127.0.0.1:6379/0"))
    return Conf(**{"participants": {}, **values})


def _forget(setting: str, **_: Any) -> None:
    if setting == "SAGAS":
        conf.cache_clear()


setting_changed.connect(_forget)
