"""Where users' servers may lie, and where not."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import pytest

from sagas import outbound
from sagas.outbound import Forbidden, Unanswered
from sagas.webhooks import FIRST_PAUSE, LONGEST_PAUSE, key_of, new_secret, pause


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.1",
        "224.0.0.1", "224.0.1.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "::1", "::", "fe80::1",
        "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1",
        "2001:0:53aa:64c:0:0:80ff:fffe", "2001:db8::1",
    ],
)  # fmt: skip
def test_inside_is_not_public(address: str) -> None:
    assert not outbound.public(ip_address(address))


@pytest.mark.parametrize("address", ["93.184.215.14", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_outside_is_public(address: str) -> None:
    assert outbound.public(ip_address(address))


def answering(*addresses: str) -> Any:
    def lookup(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return lookup


def test_one_private_address_among_public_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answering("8.8.8.8", "127.0.0.1"))
    with pytest.raises(Forbidden, match="private network"):
        outbound.post("https://rebound.example/", b"", {}, timeout=1, private=False)


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def connect(address: tuple[str, int], *_: Any, **__: Any) -> socket.socket:
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", answering("8.8.8.8"))
    monkeypatch.setattr("urllib3.util.connection.create_connection", connect)
    with pytest.raises(Unanswered):
        outbound.post("https://shop.example/ends", b"", {}, timeout=1, private=False)
    assert asked == [("8.8.8.8", 443)]


def test_a_receiver_that_drips_is_left_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        released = threading.Event()

        def drip() -> None:
            peer, _ = server.accept()
            with peer, suppress(OSError):
                while not released.wait(0.05):
                    peer.send(b"H")

        thread = threading.Thread(target=drip)
        thread.start()
        began = time.monotonic()
        with pytest.raises(Unanswered):
            outbound.post(f"http://127.0.0.1:{server.getsockname()[1]}/", b"x", {}, timeout=0.3, private=True)
        released.set()
        thread.join(10)
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/", "https://[::1]/", "https://0x7f.1/", "https://2130706433/"]
)
def test_numbers_are_names_too(url: str) -> None:
    with pytest.raises((Forbidden, Unanswered)):
        outbound.post(url, b"", {}, timeout=1, private=False)


@pytest.mark.parametrize(
    "url",
    ["https://b\u00fccher.example/", "https://a.example/\u4f8b", "https://a.example/\x00", "https://a b/"],
)
def test_what_cannot_stand_in_a_request_is_refused_beforehand(url: str) -> None:
    with pytest.raises(Forbidden, match="ASCII"):
        outbound.checked(url, private=True)


def test_a_name_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(*_: Any, **__: Any) -> Any:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    with pytest.raises(Unanswered, match="resolved"):
        outbound.resolved("nowhere.example", 443, private=False)


def test_pauses_grow_to_a_bound() -> None:
    assert FIRST_PAUSE * 0.8 <= pause(1) <= FIRST_PAUSE
    assert LONGEST_PAUSE * 0.8 <= pause(15) <= LONGEST_PAUSE


def test_secrets() -> None:
    assert len(key_of(new_secret())) == 32
    for wrong in ("", "whsec_", "whsec_!!", new_secret().removeprefix("whsec_")):
        with pytest.raises(ValueError, match="base64"):
            key_of(wrong)
