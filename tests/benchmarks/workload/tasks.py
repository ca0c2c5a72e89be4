"""The bare chain: the same calls from Celery tasks that store nothing, retry nothing, promise nothing."""

import os
import secrets
from functools import cache
from uuid import uuid4

import urllib3
from celery import Signature, chain, shared_task

from tests.benchmarks.workload import counting
from tests.benchmarks.workload.operations import ACTIONS, REFUSED, UNDOS

PEER = os.environ["BENCH_PEER_URL"]

counting.install()


@cache
def connections(pid: int) -> urllib3.PoolManager:
    """Kept-alive connections of this process, as the engine keeps them."""
    return urllib3.PoolManager(maxsize=16, retries=False)


def call(operation: str, saga: str) -> int:
    """Send what the engine would send, to the byte as far as its headers go; returns the status."""
    body = b'{"amount":100}'
    headers = {
        "Authorization": "Bearer none",
        "Accept": "application/json",
        "Idempotency-Key": f"{saga}:{operation}:action:0",
        "X-Key-Issued-At": "2026-01-01T00:00:00.000000+00:00",
        "X-Saga-Id": saga,
        "X-Saga-Step": operation,
        "X-Correlation-Id": saga,
        "traceparent": f"00-{saga.replace('-', '')}-{secrets.token_hex(8)}-01",
        "Content-Type": "application/json",
    }
    answer = connections(os.getpid()).request(
        "POST", f"{PEER}/saga/{operation}", body=body, headers=headers, timeout=30.0
    )
    return answer.status


@shared_task(name="bench.forward")
def forward(operation: str, saga: str) -> None:
    """One step; refused, it has the three before it undone."""
    if call(operation, saga) == 409:
        chain(*(undo.si(name, saga) for name in reversed(UNDOS))).apply_async()


@shared_task(name="bench.undo")
def undo(operation: str, saga: str) -> None:
    """One compensation."""
    call(operation, saga)


def bare_chain(refused: bool) -> tuple[str, Signature]:
    """A new run's id and the chain that makes it."""
    saga = str(uuid4())
    operations = (*ACTIONS[:3], REFUSED if refused else ACTIONS[3])
    return saga, chain(*(forward.si(name, saga) for name in operations))
