"""Starts and stops PostgreSQL and Redis on the loopback interface.

`make up` keeps their data; tests take throw-away ones by `throwaway()`. PostgreSQL refuses to run
as root: there its programs run in a user namespace of their own, or else as `nobody`.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import redis as redis_client

from stack import programs
from stack.errors import Trouble
from stack.guard import guarded
from stack.ports import free_port
from stack.waiting import wait_until

USER = "saga"
PASSWORD = "saga"  # noqa: S105 - of a server that only this machine reaches
PATIENCE = 60.0
UNPRIVILEGED = ["unshare", "--user", "--map-user=65534", "--map-group=65534"]
CAREFREE = ("-c fsync=off", "-c synchronous_commit=off", "-c full_page_writes=off")


@cache
def namespaces_allowed() -> bool:
    """Whether root may put a program into a user namespace here."""
    try:
        return subprocess.run([*UNPRIVILEGED, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def owner() -> str | None:
    """The user that PostgreSQL has to be run as, or None for the one who runs this."""
    return "nobody" if os.geteuid() == 0 and not namespaces_allowed() else None


def run_unprivileged(command: Sequence[str | Path], *, env: dict[str, str] | None = None) -> str:
    """Runs `command`, not as root, and returns what it printed. Raises Trouble with its last words.

    An interruption waits for its end: a server that was left half started could not be stopped.
    """
    prefix = UNPRIVILEGED if os.geteuid() == 0 and namespaces_allowed() else []
    user = owner()
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        # A file, not a pipe: a server that stays behind would hold the pipe open.
        with subprocess.Popen(
            [*prefix, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=env,
            user=user,
            group="nogroup" if user else None,
            extra_groups=[] if user else None,
            start_new_session=True,  # a Ctrl-C in the terminal is for the supervisor alone
        ) as process:
            try:
                code = process.wait(PATIENCE * 2)
            except KeyboardInterrupt:
                process.wait(PATIENCE)
                raise
            except subprocess.TimeoutExpired:
                process.kill()
                raise Trouble(f"{command[0]} did not end within {PATIENCE * 2:.0f} s.") from None
        output.seek(0)
        text = output.read()
    if code != 0:
        raise Trouble(text.strip() or f"{command[0]} failed with {code}")
    return text


class Postgres:
    """One PostgreSQL server with its data in a folder of its own."""

    def __init__(self, data: Path, port: int, *, source: str = "auto", throwaway: bool = False) -> None:
        self.data = data
        self.port = port
        self.throwaway = throwaway
        self.log = data.with_name(f"{data.name}.log")
        self.programs = programs.postgres(source, self._data_version())

    @property
    def url(self) -> str:
        """Where the server answers, without the name of a database."""
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}"

    def start(self, *, durable: bool = False) -> None:
        """Makes the data folder if there is none and starts the server. Raises Trouble.

        `durable`: a throw-away one, too, writes as carefully as if its data mattered.
        """
        if self._data_version() is None:
            self._initialise()
        options = [
            f"-p {self.port}",
            "-c listen_addresses=127.0.0.1",
            "-c unix_socket_directories=''",  # a long path would not fit into a socket's name
            "-c max_connections=300",
            *(CAREFREE if self.throwaway and not durable else ()),
        ]
        try:
            self._pg_ctl("start", "-w", "-t", str(int(PATIENCE)), "-l", self.log, "-o", " ".join(options))
        except Trouble as error:
            raise Trouble(f"PostgreSQL did not start: {self._reason(str(error))}") from error

    @property
    def pid(self) -> int | None:
        """The process id of the server, None while none runs."""
        try:
            return int((self.data / "postmaster.pid").read_text().split()[0])
        except (FileNotFoundError, IndexError):
            return None

    def running(self) -> bool:
        """Whether a server runs on this data folder."""
        try:
            self._pg_ctl("status")
        except Trouble:
            return False
        return True

    def stop(self) -> None:
        """Stops the server; clients that are still connected are sent away."""
        if self.running():
            self._pg_ctl("stop", "-m", "immediate" if self.throwaway else "fast", "-w")

    def _pg_ctl(self, verb: str, *arguments: str | Path) -> None:
        run_unprivileged([self.programs.bin / "pg_ctl", verb, "-D", self.data, *arguments])

    def _data_version(self) -> int | None:
        try:
            return int((self.data / "PG_VERSION").read_text())
        except FileNotFoundError:
            return None

    def _initialise(self) -> None:
        # Made beside its place and moved there when complete, so that no half of one is ever taken for data.
        fresh = self.data.with_name(f"{self.data.name}.new")
        for folder in (self.data, fresh):
            shutil.rmtree(folder, ignore_errors=True)
        fresh.mkdir(mode=0o700, parents=True)
        password = self.data.with_name(f"{self.data.name}.password")
        password.write_text(PASSWORD)
        self.log.touch()
        if owner() is not None:
            for path in (fresh, password, self.log):
                shutil.chown(path, "nobody", "nogroup")
        locale = "C.UTF-8" if os.uname().sysname == "Linux" else "C"
        command: list[str | Path] = [self.programs.bin / "initdb", "-D", fresh, "-U", USER]
        command += ["-A", "scram-sha-256"]
        command += [f"--pwfile={password}", "-E", "UTF8", f"--locale={locale}"]
        try:
            run_unprivileged([*command, *(("--no-sync",) if self.throwaway else ())])
            fresh.rename(self.data)
        except Trouble as error:
            shutil.rmtree(fresh, ignore_errors=True)
            raise Trouble(f"PostgreSQL could not make its data folder: {self._reason(str(error))}") from error
        finally:
            password.unlink(missing_ok=True)

    def _reason(self, output: str) -> str:
        logged = self.log.read_text(errors="replace") if self.log.exists() else ""
        text = f"{output}\n{logged[-4000:]}"
        if "No space left on device" in text:
            return f"no disk space left at {self.data.parent}. Free some, or set DATA_DIR to another place."
        if "Permission denied" in text and os.geteuid() == 0:
            return (
                f"as root it runs as nobody, who may not enter {self.data.parent}.\n"
                "Run as an ordinary user, set DATA_DIR to a folder all may enter, or set DATABASE_URL."
            )
        fatal = [line for line in text.splitlines() if "FATAL" in line or "error:" in line.lower()]
        return f"{fatal[-1] if fatal else output.splitlines()[-1]}\nMore in {self.log}."


class Redis:
    """One Redis, or Valkey, server; its data is an append-only file unless it is throw-away."""

    def __init__(self, data: Path, port: int, *, source: str = "auto", throwaway: bool = False) -> None:
        self.data = data
        self.port = port
        self.throwaway = throwaway
        self.program = programs.redis(source)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the server answers: its database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Starts the server and waits until it answers. Raises Trouble."""
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        command: list[object] = [self.program, "--port", self.port, "--bind", "127.0.0.1", "--dir", self.data]
        command += ["--save", "", "--appendonly", "no" if self.throwaway else "yes"]
        command += ["--logfile", self.data / "redis.log"]
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C in the terminal is for the supervisor alone
        )
        if not wait_until(self.answers, PATIENCE, give_up=self.process_ended):
            self.stop()
            raise Trouble(f"Redis did not start. {self._last_words()}\nMore in {self.data / 'redis.log'}.")

    @property
    def pid(self) -> int | None:
        """The process id of the server, None while none runs."""
        return None if self.process is None or self.process_ended() else self.process.pid

    def answers(self) -> bool:
        """Whether the server answers commands now."""
        with redis_client.Redis(port=self.port, socket_timeout=1, socket_connect_timeout=1) as client:
            try:
                return bool(client.ping())
            except redis_client.RedisError:
                return False

    def process_ended(self) -> bool:
        """Whether the program that `start` started is gone."""
        return self.process is None or self.process.poll() is not None

    def stop(self) -> None:
        """Stops the server that `start` started, if it still runs."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.kill() if self.throwaway else self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _last_words(self) -> str:
        log = self.data / "redis.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return lines[-1] if lines else ""


@dataclass(frozen=True)
class ServerUrls:
    """Where a database of PostgreSQL and a Redis answer."""

    database: str
    redis: str


@contextmanager
def throwaway(database: str = "sagas", *, source: str = "auto") -> Iterator[ServerUrls]:
    """Fast servers on free ports that forget everything at the end, for tests and benchmarks.

    Yields their URLs; the PostgreSQL URL names `database`, which does not exist yet.
    """
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="sagas-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)  # nobody has to pass, where PostgreSQL runs as nobody
        postgres = Postgres(folder / "postgres", free_port(), source=source, throwaway=True)
        redis = Redis(folder / "redis", free_port(), source=source, throwaway=True)
        stack.callback(postgres.stop)
        stack.callback(redis.stop)
        with ThreadPoolExecutor() as pool:
            for started in [pool.submit(postgres.start), pool.submit(redis.start)]:
                started.result()
        stack.enter_context(guarded(folder, [pid for pid in (postgres.pid, redis.pid) if pid is not None]))
        yield ServerUrls(f"{postgres.url}/{database}", redis.url)
