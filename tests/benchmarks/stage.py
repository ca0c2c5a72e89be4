"""Everything a measurement needs as processes of its own: servers, the peer, one worker."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from stack.config import ROOT
from stack.errors import Trouble
from stack.guard import guarded
from stack.ports import free_port, taken
from stack.servers import Postgres, Redis
from stack.waiting import wait_until

PATIENCE = 30.0
CHILDREN = 2
WORKER = (
    *(sys.executable, "-m", "celery", "-A", "sagaproject", "worker", "--pool=prefork"),
    *(f"--concurrency={CHILDREN}", "--hostname=bench@localhost", "-Q", "forward,compensation"),
)


@dataclass(frozen=True)
class Stage:
    """What runs, by the names of the report, and the environment that the driver shares with it."""

    processes: Mapping[str, psutil.Process]
    environment: Mapping[str, str]
    counters: Path
    peer_port: int
    worker_log: Path
    driver_log: Path


@contextmanager
def stage(*, durable: bool) -> Iterator[Stage]:
    """Servers and the peer, without the worker. `durable`: both servers write to disk as in production."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="sagas-bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)  # nobody has to pass, where PostgreSQL runs as nobody
        postgres = Postgres(folder / "postgres", free_port(), throwaway=not durable)
        redis = Redis(folder / "redis", free_port(), throwaway=not durable)
        for server in (postgres, redis):
            stack.callback(server.stop)
            server.start()
        pids = {"postgresql": postgres.pid, "redis": redis.pid}
        stack.enter_context(guarded(folder, [pid for pid in pids.values() if pid is not None]))
        port = free_port()
        environment = environment_of(folder, f"{postgres.url}/sagas", redis.url, port)
        pids["server"] = stack.enter_context(peer(port, environment))
        yield Stage(
            {name: psutil.Process(pid) for name, pid in pids.items()},
            environment,
            folder / "statements",
            port,
            folder / "worker.log",
            folder / "driver.log",
        )


def environment_of(folder: Path, database: str, redis: str, peer_port: int) -> dict[str, str]:
    """Production's settings, pointed at this stage."""
    (folder / "metrics").mkdir()
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings",
        "DJANGO_DEBUG": "0",
        "DJANGO_SECRET_KEY": "of-a-benchmark",
        "PARTICIPANT_CREDENTIAL": "of-a-benchmark",
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "INFO",
        "DATABASE_URL": database,
        "REDIS_URL": redis,
        "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"),
        "PORT_WORKER_METRICS": str(free_port()),
        "BENCH_PEER_URL": f"http://127.0.0.1:{peer_port}",
        "BENCH_STATEMENT_COUNTERS": str(folder / "statements"),
    }


@contextmanager
def peer(port: int, environment: Mapping[str, str]) -> Iterator[int]:
    """The trivial participant; yields its pid."""
    command = (sys.executable, "-m", "tests.benchmarks.peer", str(port))
    with running(command, environment, None) as process:
        if not wait_until(lambda: taken(port), PATIENCE, give_up=lambda: process.poll() is not None):
            raise Trouble("The peer did not start.")
        yield process.pid


@contextmanager
def worker(on: Stage, answers: Callable[[], bool]) -> Iterator[psutil.Process]:
    """One prefork worker of the project, once it `answers`."""
    with running(WORKER, on.environment, on.worker_log) as process:
        if not wait_until(answers, PATIENCE, give_up=lambda: process.poll() is not None):
            raise Trouble(f"The worker did not start:\n{on.worker_log.read_text(errors='replace')[-2000:]}")
        yield psutil.Process(process.pid)


@contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], log: Path | None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block; what it says goes to `log`."""
    with open(log or os.devnull, "wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=dict(environment), stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def cpu_seconds(process: psutil.Process) -> float:
    """CPU that a process and all its descendants have used, those that have ended included."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue  # its parent has its time by now, or in the next reading
        total += times.user + times.system + times.children_user + times.children_system
    return total
