"""The trivial participant: keep-alive HTTP/1.1 that answers from memory, `python -m ...peer PORT`.

`GET /ended` answers the ids of the bare chains whose last call has been answered since it was last asked.
"""

import asyncio
import json
import sys

from tests.benchmarks.workload.operations import ACTIONS, REFUSED, UNDOS

END = b"\r\n\r\n"


def answer(status: str, body: bytes, kind: str = "application/json") -> bytes:
    """A whole response."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


SUCCESS = answer("200 OK", json.dumps({"status": "success", "data": {"id": "a-business-id"}}).encode())
REFUSAL = answer(
    "409 Conflict", json.dumps({"status": "failed", "code": "refused", "reason": "as asked"}).encode()
)
LAST = tuple(f"POST /saga/{operation} ".encode() for operation in (ACTIONS[-1], UNDOS[0]))
REFUSE = f"POST /saga/{REFUSED} ".encode()


def header(head: bytes, name: bytes) -> bytes:
    """The value of a header that is sent in this spelling; empty if absent."""
    _, found, rest = head.partition(b"\r\n" + name + b": ")
    return rest.split(b"\r\n", 1)[0] if found else b""


class Peer(asyncio.Protocol):
    """One connection; requests on it come one after the other."""

    ended: list[bytes] = []  # noqa: RUF012 - shared by all connections on purpose

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        while END in self.received:
            head, _, rest = self.received.partition(END)
            length = int(header(head, b"Content-Length") or 0)
            if len(rest) < length:
                return
            self.received = rest[length:]
            self.transport.write(self.respond(head))

    def respond(self, head: bytes) -> bytes:
        """The answer to one request."""
        if head.startswith(REFUSE):
            return REFUSAL
        if head.startswith(b"GET /ended"):
            body, self.ended[:] = b"\n".join(self.ended), []
            return answer("200 OK", body, "text/plain")
        if head.startswith(LAST):
            self.ended.append(header(head, b"X-Saga-Id"))
        return SUCCESS


async def serve(port: int) -> None:
    """Until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Peer, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
