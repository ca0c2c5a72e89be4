"""Last known results of calls, for steps that fall back to cached data.

They live in Django's default cache: losing them costs a fallback, never correctness.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import structlog
from django.core.cache import cache

from sagas.state import CachedResult

log = structlog.get_logger(__name__)

KEPT_FOR = 7 * 24 * 3600


def keep_result(request: Mapping[str, Any], result: Any, now: datetime) -> None:
    """Remember what a call answered."""
    try:
        cache.set(_key(request), {"result": result, "at": now.isoformat()}, KEPT_FOR)
    except Exception as error:  # each cache backend raises its own errors
        log.warning("result not cached", error=str(error))


def cached_result(request: Mapping[str, Any], now: datetime) -> CachedResult | None:
    """What the same call answered last, and how long ago; None if that is not known."""
    try:
        kept = cache.get(_key(request))
    except Exception as error:  # as in keep_result
        log.warning("cached result not read", error=str(error))
        return None
    if kept is None:
        return None
    return CachedResult(kept["result"], now - datetime.fromisoformat(kept["at"]))


def _key(request: Mapping[str, Any]) -> str:
    same = "\n".join(str(request.get(part, "")) for part in ("participant", "method", "path", "body"))
    return f"sagas:result:{hashlib.sha256(same.encode()).hexdigest()}"
