"""Secrets of one stack: drawn once, kept beside its data for its owner alone."""

import json
import secrets
from pathlib import Path

NAMES = ("DJANGO_SECRET_KEY", "PARTICIPANT_CREDENTIAL", "EVENT_KEYS")
FILE = "secrets.json"


def secrets_of(data: Path) -> dict[str, str]:
    """The stack's secrets by variable; those that it does not have yet are drawn now."""
    path = data / FILE
    kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    drawn = {name: secrets.token_urlsafe(48) for name in NAMES if name not in kept}
    if drawn:
        path.touch(mode=0o600)
        path.write_text(json.dumps({**kept, **drawn}))
    return {**kept, **drawn}
