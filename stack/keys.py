"""Secrets of one stack: drawn once, kept beside its data for its owner alone."""

import json
import secrets
from pathlib import Path

NAMES = ("DJANGO_SECRET_KEY", "PARTICIPANT_CREDENTIAL")
FILE = "secrets.json"


def secrets_of(data: Path) -> dict[str, str]:
    """The stack's secrets by variable, drawn now if this is the first time."""
    path = data / FILE
    if path.exists():
        kept: dict[str, str] = json.loads(path.read_text())
        return kept
    drawn = {name: secrets.token_urlsafe(48) for name in NAMES}
    path.touch(mode=0o600)
    path.write_text(json.dumps(drawn))
    return drawn
