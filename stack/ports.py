"""Which ports are free, and who holds those that are not."""

import socket
from collections.abc import Mapping

import psutil

from stack.config import PORT_OWNERS
from stack.errors import Trouble


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def taken(port: int) -> bool:
    """Whether the stack could not listen on `port` of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def holder(port: int) -> str:
    """` by NAME (pid N)` for the process that listens on `port`, or nothing if that cannot be seen."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == "LISTEN":
                if connection.pid is None:
                    return ""
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        return ""
    return ""


def require_free(ports: Mapping[str, int]) -> None:
    """Raises Trouble that names every one of `ports` (variable to number) that is taken or used twice."""
    problems: dict[str, str] = {}
    for variable, port in ports.items():
        first = next(name for name, number in ports.items() if number == port)
        if first != variable:
            problems[variable] = f"{variable} and {first} are both {port}."
        elif taken(port):
            problems[variable] = f"Port {port} for {PORT_OWNERS[variable]} is taken{holder(port)}."
    if problems:
        others = " ".join(f"{variable}={free_port()}" for variable in problems)
        mend = f"Stop what holds it, or choose another: {others} make up"
        raise Trouble("\n".join([*problems.values(), mend]))
