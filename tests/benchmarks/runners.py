"""How each contender is started, and how a client sees that its sagas have ended."""

import http.client
from collections.abc import Collection
from typing import ClassVar

import psycopg

from sagas import dispatch, engine
from tests.benchmarks.workload.tasks import bare_chain

AMOUNT = 100


class BareChain:
    """Celery alone. A chain has ended when its last call was answered; the peer saw that.

    So nothing is added to the chain itself; what its last task does afterwards is not counted.
    """

    name: ClassVar[str] = "bare-celery"

    def __init__(self, peer_port: int) -> None:
        self.peer = http.client.HTTPConnection("127.0.0.1", peer_port)
        self.seen: set[str] = set()

    def start(self, refused: bool) -> str:
        saga, signature = bare_chain(refused)
        signature.apply_async()
        return saga

    def ended(self, ids: Collection[str]) -> set[str]:
        self.peer.request("GET", "/ended")
        self.seen.update(self.peer.getresponse().read().decode().split())
        found = self.seen.intersection(ids)
        self.seen -= found
        return found


class Engine:
    """Sagas of this engine. One has ended when its row says so."""

    name: ClassVar[str] = ""
    type: ClassVar[str] = ""
    # One look-up by primary key for each; as a join it would be planned for tables without statistics.
    sql = """SELECT asked.id::text, (SELECT status FROM sagas_saga WHERE id = asked.id)
             FROM unnest(%s::uuid[]) AS asked(id)"""
    running = frozenset({"pending", "in_progress", "compensating"})

    def __init__(self, database: psycopg.Connection) -> None:
        self.database = database

    def start(self, refused: bool) -> str:
        state = engine.start(self.type, {"refused": refused, "amount": AMOUNT}).state
        dispatch.ring(state, engine.due_positions(state), engine.clock.now())
        return str(state.id)

    def ended(self, ids: Collection[str]) -> set[str]:
        rows = self.database.execute(self.sql, [list(ids)], prepare=True).fetchall()
        ended = {saga: status for saga, status in rows if status not in self.running}
        for saga, status in ended.items():
            if status not in ("completed", "compensated"):
                raise RuntimeError(f"saga {saga} is {status}")
        return set(ended)


class Chain(Engine):
    """A task a step."""

    name = "chain"
    type = "bench_chain"


class Inline(Engine):
    """The worker goes on with the next step."""

    name = "inline"
    type = "bench_inline"
