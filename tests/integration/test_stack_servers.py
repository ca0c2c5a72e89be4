"""Throw-away servers: there while they are needed, gone afterwards, even if their owner is killed."""

import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from stack import given
from stack.config import ROOT
from stack.errors import Trouble
from stack.given import require_postgres, require_redis
from stack.ports import free_port
from stack.servers import Postgres, ServerUrls, throwaway
from stack.waiting import wait_until

OWNER = """
import signal
from stack.servers import throwaway
with throwaway() as urls:
    print(urls.database, urls.redis, flush=True)
    signal.pause()
"""


def answers(database: str, redis_url: str) -> bool:
    maintenance = f"{database.rsplit('/', 1)[0]}/postgres"
    try:
        psycopg.connect(maintenance, connect_timeout=2).close()
        with redis.Redis.from_url(redis_url, socket_connect_timeout=2) as client:
            return bool(client.ping())
    except (psycopg.OperationalError, redis.RedisError):
        return False


def folder_of(database: str) -> Path:
    """The folder of the server of that URL, as its command line names it."""
    port = database.rsplit(":", 1)[1].split("/")[0]
    for process in psutil.process_iter(["cmdline"]):
        line: list[str] = process.info["cmdline"] or []
        if "-D" in line and port in line:
            return Path(line[line.index("-D") + 1]).parent
    raise AssertionError(f"no server on port {port}")


def test_servers_answer_and_then_are_gone() -> None:
    with throwaway() as urls:
        assert answers(urls.database, urls.redis)
        require_postgres(urls.database)  # though that database is not there yet
        require_redis(urls.redis)
        folder = folder_of(urls.database)
    assert not answers(urls.database, urls.redis)
    assert not folder.exists()


def test_a_server_of_few_connections_is_refused(servers: ServerUrls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "CONNECTIONS_NEEDED", 100_000)
    with pytest.raises(Trouble, match=r"allows \d+ connections.*\n.*max_connections"):
        require_postgres(servers.database)


def test_servers_end_with_an_owner_that_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        database, redis_url = owner.stdout.readline().split()
        folder = folder_of(database)
        owner.send_signal(signal.SIGKILL)
    assert wait_until(lambda: not folder.exists(), 20)
    assert wait_until(lambda: not answers(database, redis_url), 20)


def test_a_data_folder_that_was_half_made_is_not_taken_for_data() -> None:
    folder = Path(tempfile.mkdtemp(prefix="sagas-"))
    folder.chmod(0o711)
    half = folder / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("15")
    server = Postgres(folder / "postgres", free_port(), throwaway=True)
    try:
        server.start()
        assert server.running()
        assert not half.exists()
    finally:
        server.stop()
        shutil.rmtree(folder)
