"""Where participants are, which of their addresses answer, and how this service shows who it is.

A participant may have several URLs. One that could not be connected to is left alone for a while;
since nothing was sent to it, the call may go to the next at once. Names are resolved for every new
connection, so that a name with several addresses fails over by DNS as well.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

AWAY_FOR = 10.0

_away: dict[str, float] = {}
_credentials: dict[str, tuple[int, str]] = {}


def urls(target: Mapping[str, Any]) -> list[str]:
    """All URLs of a participant, in the order of its setting (a string with commas, or a list)."""
    given = target["url"]
    listed = given.split(",") if isinstance(given, str) else given
    return [url.strip().rstrip("/") for url in listed if url.strip()]


def addresses(target: Mapping[str, Any]) -> list[str]:
    """The URLs to try in turn: those not known to be away; all of them if all are."""
    now = time.monotonic()
    listed = urls(target)
    up = [url for url in listed if _away.get(url, 0.0) <= now]
    return up or listed


def unreachable(url: str) -> None:
    """No connection came about, so nothing was sent: leave this address alone for a while."""
    _away[url] = time.monotonic() + AWAY_FOR


def reachable(url: str) -> None:
    """This address has answered."""
    _away.pop(url, None)


def credential(target: Mapping[str, Any]) -> str:
    """What to show this participant; a `credential_file` is read again whenever it has changed.

    Its first line counts: a participant that is rotating accepts all lines of the same file.

    Raises:
        ImproperlyConfigured: the file cannot be read.
    """
    path = target.get("credential_file")
    if not path:
        return str(target.get("credential", ""))
    try:
        changed = Path(path).stat().st_mtime_ns
        known = _credentials.get(path)
        if known is None or known[0] != changed:
            first = (Path(path).read_text().split() or [""])[0]
            known = _credentials[path] = (changed, first)
    except OSError as error:
        raise ImproperlyConfigured(f"the credential file {path} cannot be read: {error}") from error
    return known[1]
