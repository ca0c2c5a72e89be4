"""Who may call a participant: whoever holds one of the service credentials it accepts."""

from hmac import compare_digest

from django.http import HttpRequest

from participants.contract.configuration import credentials

SCHEME = "Bearer "


def is_accepted(request: HttpRequest) -> bool:
    """Compares in constant time with every credential; several are valid while one is rotated."""
    header = request.headers.get("Authorization", "")
    if not header.startswith(SCHEME):
        return False
    offered = header[len(SCHEME) :].encode()
    matches = [compare_digest(offered, known.encode()) for known in credentials()]
    return any(matches)
