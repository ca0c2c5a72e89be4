"""Who may call a participant: whoever holds one of the service credentials it accepts.

A participant accepts, in this order of precedence, what its file of credentials holds, the
credentials of its own, or those common to all. A file has one credential a line and is read again
whenever it has changed, so that credentials are rotated without a restart: add the new one, let the
callers change over, take the old one out.
"""

import logging
from collections.abc import Sequence
from hmac import compare_digest
from pathlib import Path

from django.http import HttpRequest

from participants.contract.configuration import common_credentials, credential_file, own_credentials

log = logging.getLogger("participants")
SCHEME = "Bearer "
Version = tuple[int, int, int]

_read: dict[str, tuple[Version, Sequence[str]]] = {}


def is_accepted(request: HttpRequest, participant: str) -> bool:
    """Compares in constant time with every credential; several are valid while one is rotated."""
    header = request.headers.get("Authorization", "")
    if not header.startswith(SCHEME):
        return False
    offered = header[len(SCHEME) :].encode()
    matches = [compare_digest(offered, known.encode()) for known in credentials(participant) if known]
    return any(matches)


def credentials(participant: str) -> Sequence[str]:
    """The service credentials that the participant accepts now."""
    path = credential_file(participant)
    if path:
        return in_file(path)
    return own_credentials(participant) or common_credentials()


def in_file(path: str) -> Sequence[str]:
    """The credentials in a file as it is now; while it cannot be read, those it held last."""
    try:
        found = Path(path).stat()
        version = (found.st_mtime_ns, found.st_size, found.st_ino)
        if path not in _read or _read[path][0] != version:
            _read[path] = (version, lines_of(Path(path).read_text()))
    except (OSError, UnicodeDecodeError) as wrong:
        log.warning("credentials cannot be read", extra={"path": path, "failure": str(wrong)})
    return _read[path][1] if path in _read else ()


def lines_of(text: str) -> Sequence[str]:
    """One credential a line; empty lines and lines that begin with # say nothing."""
    lines = [line.strip() for line in text.splitlines()]
    return tuple(line for line in lines if line and not line.startswith("#"))
