"""Posts to addresses that users have chosen, and never to the inside of our own network.

The name is looked up here, every address it has must be public, and the connection goes to the very
address that was checked: a name that answers otherwise a moment later gains nothing. Redirects are
not followed and proxies of the environment not used.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import SplitResult, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from sagas.errors import SagaError

LOOKUP_FAILED = "its name cannot be resolved"
ANSWER_READ = 2048


class Forbidden(SagaError):
    """The address may not be posted to; the message says why."""


class Unanswered(SagaError):
    """No complete answer came."""


def checked(url: str, *, private: bool) -> SplitResult:
    """The parts of a URL that may be posted to, as far as its text tells.

    Raises:
        Forbidden: another scheme, a login in it, no host, a port that is none, or more than ASCII.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Forbidden(f"the address is malformed: {error}") from None
    if parts.scheme != "https" and not (private and parts.scheme == "http"):
        raise Forbidden("the address must begin with https://")
    if not parts.hostname or port == 0:
        raise Forbidden("the address names no host")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise Forbidden(
            "the address must be plain ASCII: write the rest as xn-- in its host and as % escapes"
        )
    if parts.username is not None or parts.password is not None:
        raise Forbidden("the address must not carry a login")
    return parts


def public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address belongs to the public internet, also where it wraps another one."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is not None:
            return public(inner)
        if address.teredo is not None or address in NAT64:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


class _Prefix:
    """Addresses that translators turn into any IPv4 address (RFC 6052)."""

    START = int(IPv6Address("64:ff9b::")) >> 32

    def __contains__(self, address: IPv6Address) -> bool:
        return int(address) >> 32 == self.START


NAT64 = _Prefix()


def resolved(host: str, port: int, *, private: bool) -> str:
    """One address of the host, all of which may be reached.

    Raises:
        Forbidden: one of them is private.
        Unanswered: it has none.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Unanswered(LOOKUP_FAILED) from None
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    if not private and not all(public(ip_address(address)) for address in addresses):
        raise Forbidden(f"{host} lies in a private network; its address must be public")
    return addresses[0]


def post(url: str, body: bytes, headers: Mapping[str, str], *, timeout: float, private: bool) -> int:
    """Post once; the status that was answered. What the answer holds is read in part and thrown away.

    Raises:
        Forbidden: the address is not one to post to.
        Unanswered: no connection, or no answer in time; the message says what happened.
    """
    parts = checked(url, private=private)
    host = str(parts.hostname)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    address = resolved(host, port, private=private)
    link = (
        HTTPSConnection(address, port, timeout=timeout, cert_reqs="CERT_REQUIRED", server_hostname=host)
        if secure
        else HTTPConnection(address, port, timeout=timeout)
    )
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    end = threading.Timer(timeout, _shut, (link,))
    end.daemon = True
    end.start()
    try:
        link.request("POST", target, body, {**headers, "Host": parts.netloc}, preload_content=False)
        answer = link.getresponse()
        answer.read(ANSWER_READ)
        return answer.status
    except (urllib3.exceptions.HTTPError, HTTPException, OSError) as error:
        raise Unanswered(f"{type(error).__name__}: {error}"[:300]) from None
    finally:
        end.cancel()
        link.close()


def _shut(link: HTTPConnection) -> None:
    """End an exchange that drips on: a socket's own time limit begins anew with every byte."""
    if link.sock is not None:
        with suppress(OSError):
            link.sock.shutdown(socket.SHUT_RDWR)
