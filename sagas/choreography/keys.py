"""Clients' keys as they lie in the database: wrapped with a secret of the settings, which no table holds.

`CHOREOGRAPHY["KEYS"]` has the newest secret first: the first wraps, every one of them opens.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from functools import cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.core.exceptions import ImproperlyConfigured

from sagas.choreography.conf import KEYS_MEND, conf


class WrongKey(ImproperlyConfigured):
    """The settings have no secret, or none that opens a client's key; the message names the mend."""


def wrap(key: bytes) -> bytes:
    """A client's key as it is stored.

    Raises:
        WrongKey: the settings have no secret.
    """
    return MultiFernet(_wrapping()).encrypt(key)


def unwrap(stored: bytes) -> bytes:
    """The client's key that was stored.

    Raises:
        WrongKey: no secret of the settings opens it.
    """
    try:
        return MultiFernet(_wrapping()).decrypt(stored)
    except InvalidToken:
        raise WrongKey(
            "no secret in CHOREOGRAPHY['KEYS'] opens a client's key: add the one that it was wrapped with"
            " behind the first (EVENT_KEYS=new,old), and restart"
        ) from None


def rewrapped(stored: bytes) -> bytes | None:
    """The stored key, wrapped with the first secret; None if it is already.

    Raises:
        WrongKey: no secret of the settings opens it.
    """
    try:
        _wrapping()[0].decrypt(stored)
    except InvalidToken:
        return wrap(unwrap(stored))
    return None


def _wrapping() -> list[Fernet]:
    secrets = conf().keys
    if not secrets:
        raise WrongKey(KEYS_MEND)
    return [_derived(secret) for secret in secrets]


@cache
def _derived(secret: str) -> Fernet:
    """The key that belongs to a secret, which is random and thus needs no slow hash (RFC 5869)."""
    derivation = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"sagas.choreography: keys of clients")
    return Fernet(urlsafe_b64encode(derivation.derive(secret.encode())))
