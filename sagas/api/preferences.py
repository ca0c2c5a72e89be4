"""The request headers `Prefer` (RFC 7240) and `Idempotency-Key`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sagas.errors import InvalidInput

MAX_WAIT = 60
MAX_KEY = 255
_PREFERENCE = re.compile(
    r'\s*([\w!#$%&\'*+.^`|~-]+)\s*(?:=\s*(?:"([^"]*)"|([^\s;,"]*)))?\s*(?:;[^,]*)?', re.ASCII
)
_SECONDS = re.compile(r"[0-9]{1,9}")
_KEY = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Preference:
    """How long the caller wants to wait for the end, in seconds, and what they said to that effect."""

    seconds: int
    said: str | None = None


def preference(header: str, default: int = 0) -> Preference:
    """What `Prefer` says about waiting: `wait=N`, at most 60; `respond-async` alone is not at all.

    What cannot be read is left out, and of two preferences with one name the first counts.
    """
    found: dict[str, str] = {}
    for part in header.split(","):
        match = _PREFERENCE.fullmatch(part)
        if match is not None:
            found.setdefault(match[1].lower(), match[2] or match[3] or "")
    if _SECONDS.fullmatch(found.get("wait", "")):
        seconds = min(int(found["wait"]), MAX_WAIT)
        return Preference(seconds, f"wait={seconds}")
    return Preference(0, "respond-async") if "respond-async" in found else Preference(default)


def idempotency_key(headers: Mapping[str, str]) -> str | None:
    """The key under which a repeated request counts once; None if none was given.

    Raises:
        InvalidInput: it is empty, too long, or not printable ASCII.
    """
    key = headers.get("Idempotency-Key")
    if key is None:
        return None
    if len(key) > MAX_KEY or not _KEY.fullmatch(key):
        message = f"Give 1 to {MAX_KEY} printable ASCII characters without spaces"
        raise InvalidInput([{"field": "Idempotency-Key", "message": message}])
    return key
