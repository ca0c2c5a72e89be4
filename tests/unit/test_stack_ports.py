"""Ports that are taken are all named at once, each with the variable that changes it."""

import socket

import pytest

from stack.errors import Trouble
from stack.ports import free_port, require_free, taken


def test_free_ports_pass() -> None:
    require_free({"PORT_API": free_port(), "PORT_FLOWER": free_port()})


def test_every_taken_port_is_named_with_its_variable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = {"PORT_API": one.getsockname()[1], "PORT_FLOWER": two.getsockname()[1]}
        assert all(taken(port) for port in ports.values())
        with pytest.raises(Trouble) as caught:
            require_free(ports)
    message = str(caught.value)
    for port in ports.values():
        assert f"Port {port} for" in message
    assert "PORT_API=" in message
    assert "PORT_FLOWER=" in message


def test_a_port_used_twice_is_refused() -> None:
    port = free_port()
    with pytest.raises(Trouble, match=f"PORT_FLOWER and PORT_API are both {port}"):
        require_free({"PORT_API": port, "PORT_FLOWER": port})
