"""`sagas` as a package of its own: built as a wheel, installed elsewhere, used by another project."""

import json
import os
import shutil
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from stack.servers import ServerUrls
from stack.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "tests" / "portable"
BOUND = 60.0


class Warehouse(ThreadingHTTPServer):
    """A participant somebody else wrote; it ships nothing heavier than a kilo."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), WarehouseHandler)
        self.calls: list[tuple[str, str]] = []


class WarehouseHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        operation = self.path.rsplit("/", 1)[-1]
        assert isinstance(self.server, Warehouse)
        self.server.calls.append((operation, self.headers.get("X-Compensates", "")))
        if body.get("grams", 0) > 1000:
            self._answer(409, {"status": "failed", "code": "too_heavy", "reason": "one kilo at most"})
        else:
            self._answer(200, {"status": "success", "data": {"parcel": "P1"} if operation == "ship" else {}})

    def _answer(self, status: int, answer: dict[str, Any]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Warehouse]:
    with Warehouse() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, and with this one's packages but not this repository."""
    folder = tmp_path_factory.mktemp("portable")
    uv = str(Path(sys.executable).with_name("uv"))
    build = [uv, "build", "--wheel", "--no-build-isolation", "--offline"]
    command = [*build, "--python", sys.executable, "-o", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    venv.create(folder / "env", with_pip=False, symlinks=True)
    site = next((folder / "env" / "lib").glob("python*")) / "site-packages"
    (site / "packages.pth").write_text(str(Path(psycopg.__file__).parents[1]))
    shutil.unpack_archive(next(folder.glob("sagas-*.whl")), site, "zip")
    shutil.copytree(PROJECT, folder / "project")
    return folder / "env" / "bin" / "python"


@pytest.fixture(scope="module")
def environment(servers: ServerUrls, warehouse: Warehouse, python: Path) -> Iterator[dict[str, str]]:
    """The small project's environment, with a database of its own that is migrated."""
    name = f"portable_{uuid4().hex[:8]}"
    with psycopg.connect(f"{servers.database.rsplit('/', 1)[0]}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        env = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": f"{servers.database.rsplit('/', 1)[0]}/{name}",
            "REDIS_URL": f"{servers.redis.rsplit('/', 1)[0]}/9",
            "WAREHOUSE_URL": f"http://127.0.0.1:{warehouse.server_address[1]}",
        }
        manage(python, env, "migrate", "-v", "0")
        yield env
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def manage(python: Path, env: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [python, "manage.py", *arguments],
        cwd=project(python),
        env=env,
        text=True,
        capture_output=True,
        timeout=BOUND,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def project(python: Path) -> Path:
    return python.parents[2] / "project"


@pytest.fixture(scope="module")
def worker(python: Path, environment: dict[str, str]) -> Iterator[None]:
    """The small project's Celery worker, consuming its own queue and those of the sagas."""
    queues = "celery,forward,compensation,maintenance"
    command = [str(python), "-m", "celery", "-A", "shop", "worker", "-c", "1", "-Q", queues, "-l", "warning"]
    process = subprocess.Popen(command, cwd=project(python), env=environment, stdout=subprocess.DEVNULL)
    yield
    process.terminate()
    process.wait(BOUND)


START = """
import json
import sagas
from sagas.starting import start
print(sagas.__file__, start("shop_order", json.loads({data!r})).id)
"""
VISIT = """
from django.contrib.auth.models import User
from django.test import Client
saga, stranger, known = "/api/v1/sagas/{saga}", Client(), Client()
known.force_login(User.objects.create_superuser("{saga}"))
for path in (saga, "/api/v1/sagas", "/api-docs", "/api-docs/schema"):
    print(stranger.get(path).status_code, known.get(path).status_code)
"""


def finished(environment: dict[str, str], saga_id: str) -> tuple[str, Any]:
    def end() -> tuple[str, Any] | None:
        with psycopg.connect(environment["DATABASE_URL"]) as connection:
            sql = "SELECT status, result FROM sagas_saga WHERE id = %s AND finished_at IS NOT NULL"
            return connection.execute(sql, [saga_id]).fetchone()

    wait_until(lambda: end() is not None, BOUND)
    found = end()
    assert found is not None
    return found


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("pieces", "end", "undone"),
    [(2, ("completed", {"grams": 500, "parcel": "P1"}), []), (9, ("compensated", None), ["release"])],
)
def test_another_project_runs_a_saga_with_the_wheel(
    python: Path,
    environment: dict[str, str],
    warehouse: Warehouse,
    pieces: int,
    end: tuple[str, Any],
    undone: list[str],
) -> None:
    warehouse.calls.clear()
    code = START.format(data=json.dumps({"sku": "A1", "pieces": pieces}))
    where, saga_id = manage(python, environment, "shell", "--no-imports", "-c", code).split()
    assert str(python.parents[1]) in where
    assert finished(environment, saga_id) == end
    assert [name for name, _ in warehouse.calls] == ["reserve", "ship", *undone]
    assert all(key == f"{saga_id}:reserve:action:0" for name, key in warehouse.calls if name == "release")
    visits = manage(python, environment, "shell", "--no-imports", "-c", VISIT.format(saga=saga_id))
    assert visits.splitlines() == ["403 200", "403 200", "200 200", "200 200"]


def test_the_small_project_passes_its_own_checks(python: Path, environment: dict[str, str]) -> None:
    assert "flowchart TD" in manage(python, environment, "sagas", "graph", "shop_order")
    assert "no issues" in manage(python, environment, "check")
