"""`make up`: servers, databases, processes, health, the demo, and then on until it is told to stop."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import FrameType

from stack import demo, ports
from stack.config import ROOT, Config
from stack.errors import Trouble
from stack.given import require_given
from stack.health import wait_healthy, worker_inspector
from stack.keys import secrets_of
from stack.processes import all_processes, clear_folder
from stack.progress import console, doing, note
from stack.servers import Postgres, Redis
from stack.state import Owned, State
from stack.supervisor import MergedLog, Supervisor, open_log
from stack.sweep import MARK, sweep

SPACE_NEEDED = 300 * 1024 * 1024
DETACHED = "STACK_DETACHED"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def up(config: Config) -> None:
    """Runs a whole stack until SIGINT, SIGTERM or SIGHUP; stops all that it started, and only that.

    Raises KeyboardInterrupt at the signal, or Trouble when it cannot start; by then all is stopped.
    """
    state = State(config.run, config.given)
    hurry = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(state.held())
        stack.enter_context(interruptible(hurry))
        sweep(config)
        check_place(config)
        stack.callback(state.forget_ended)
        record = Record(state)
        require_given(config)
        start_servers(config, record, stack)
        environment = environment_of(config, record.servers)
        prepare(config, environment)
        supervisor = start_processes(config, environment, record, hurry, stack)
        supervisor.settled()
        demo.run(config, environment[demo.CALLER])
        where_to_look(config, environment)
        record.ready()
        supervisor.log.shown = DETACHED not in os.environ
        threading.Event().wait()


class Record:
    """Keeps the state file true while servers and processes come and go."""

    def __init__(self, state: State) -> None:
        self.servers: dict[str, Postgres | Redis] = {}
        self._state = state
        self._pids: dict[str, int] = {}
        self._ready = False
        self._write()

    def server(self, name: str, server: Postgres | Redis) -> None:
        """Adds a server that was started."""
        self.servers[name] = server
        self._write()

    def processes(self, pids: Mapping[str, int]) -> None:
        """Takes the processes that run now."""
        self._pids = dict(pids)
        self._write()

    def ready(self) -> None:
        """Says that everything is healthy and the demo has run."""
        self._ready = True
        self._write()

    def _write(self) -> None:
        pids = {"supervisor": os.getpid(), **self._pids}
        pids.update({name: server.pid for name, server in self.servers.items() if server.pid is not None})
        owned = [Owned.of(name, pid) for name, pid in pids.items()]
        self._state.write([one for one in owned if one is not None], ready=self._ready)


@contextmanager
def interruptible(hurry: threading.Event) -> Iterator[None]:
    """The first signal to stop raises KeyboardInterrupt, the second sets `hurry`, further ones do nothing.

    Whoever holds Ctrl-C down sends dozens a second: each must find less to do than the one before.
    """

    def later(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        hurry.set()

    def first(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, later)
        note("\nStopping; once more to stop at once.")
        raise KeyboardInterrupt

    before = {each: signal.signal(each, first) for each in SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def check_place(config: Config) -> None:
    """Raises Trouble if there is no room, or a port is taken."""
    free = shutil.disk_usage(config.data).free
    if free < SPACE_NEEDED:
        raise Trouble(
            f"{config.data} has {free >> 20} MB free; a stack needs {SPACE_NEEDED >> 20} MB.\n"
            "Free some, or set DATA_DIR to another place."
        )
    ports.require_free(config.own_ports())
    (config.data / MARK).touch()  # tells `make clean` that this folder is ours


def own_servers(config: Config) -> dict[str, Postgres | Redis]:
    """The servers that the stack brings itself. Raises Trouble if their programs are not to be found."""
    servers: dict[str, Postgres | Redis] = {}
    if config.database_url is None:
        port = config.ports["PORT_POSTGRES"]
        servers["postgres"] = Postgres(config.data / "postgres", port, source=config.server_source)
    if config.redis_url is None:
        port = config.ports["PORT_REDIS"]
        servers["redis"] = Redis(config.data / "redis", port, source=config.server_source)
    return servers


def start_servers(config: Config, record: Record, stack: ExitStack) -> None:
    """Starts the servers that are not given by URL; `stack` stops them. Raises Trouble."""
    for name, server in own_servers(config).items():
        if isinstance(server, Postgres):
            what = f"PostgreSQL {server.programs.major} on port {server.port}"
        else:
            what = f"Redis on port {server.port} ({server.program.name})"
        with doing(what):
            stack.callback(server.stop)
            server.start()
            record.server(name, server)


# As in production, but for the demo's users, whose passwords are printed.
PRODUCTION_LIKE = {
    "DJANGO_DEBUG": "0",
    "SEED_DEMO_USERS": "1",
}


def environment_of(config: Config, servers: Mapping[str, Postgres | Redis]) -> dict[str, str]:
    """The environment of every process of the stack."""
    own = {name: str(port) for name, port in config.ports.items()}
    # The stack asks for the health of its API itself, whatever other names that has.
    own["DJANGO_ALLOWED_HOSTS"] = f"127.0.0.1,{config.environment.get('DJANGO_ALLOWED_HOSTS') or 'localhost'}"
    if "postgres" in servers:
        own["DATABASE_URL"] = f"{servers['postgres'].url}/sagas"
    if "redis" in servers:
        own["REDIS_URL"] = servers["redis"].url
    callbacks = {"SAGA_CALLBACK_URL": config.api_url}
    return {
        **PRODUCTION_LIKE,
        **callbacks,
        **secrets_of(config.data),
        **demo.TOKENS,
        **config.environment,
        **own,
    }


def prepare(config: Config, environment: Mapping[str, str]) -> None:
    """Creates, migrates and fills the databases. Raises Trouble with the last line that was printed."""
    config.logs.mkdir(parents=True, exist_ok=True)
    path = config.logs / "prepare.log"
    line = ""
    with doing("Databases and demo data") as status, path.open("w") as log:
        with subprocess.Popen(
            [sys.executable, "-u", "-m", "stack.prepare"],
            cwd=ROOT,
            env=dict(environment),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            try:
                for line in process.stdout or ():
                    log.write(line)
                    status.update(f"Databases and demo data: {line.strip()}")
            except KeyboardInterrupt:
                os.killpg(process.pid, signal.SIGTERM)
                raise
        if process.returncode != 0:
            raise Trouble(f"The databases could not be made ready: {line.strip()}\nMore in {path}.")


def start_processes(
    config: Config, environment: Mapping[str, str], record: Record, hurry: threading.Event, stack: ExitStack
) -> Supervisor:
    """Starts all processes and waits until they are healthy; `stack` stops them. Raises Trouble."""
    processes = all_processes(config, worker_inspector(environment["REDIS_URL"]))
    for folder in ("beat", "tending"):
        clear_folder(config.run / folder)
    for process in processes:
        metrics = process.environment.get("PROMETHEUS_MULTIPROC_DIR")
        if metrics is not None:
            clear_folder(config.run / metrics)
    log = MergedLog(
        stack.enter_context(open_log(config.logs)),
        [process.name for process in processes],
        shown=bool(environment.get("VERBOSE")),
    )
    supervisor = Supervisor(environment, log, hurry, record.processes)
    stack.callback(supervisor.stop)
    for process in processes:
        supervisor.start(process)
    wait_healthy(supervisor, processes)
    return supervisor


def where_to_look(config: Config, environment: Mapping[str, str]) -> None:
    """Prints where the running stack can be seen, with the logins of the demo."""
    token = environment[demo.CALLER]
    flower = environment.get("FLOWER_BASIC_AUTH") or "admin:admin"
    places = {
        "Front end": f"{config.api_url}/   login operator / operator",
        "API docs": f"{config.api_url}/api-docs",
        "Admin": f"{config.api_url}/admin/   login admin / admin",
        "Services": f"http://127.0.0.1:{config.ports['PORT_PARTICIPANTS']}/admin/   login admin / admin",
        "Flower": f"http://127.0.0.1:{config.ports['PORT_FLOWER']}/   login {flower.replace(':', ' / ', 1)}",
        "Metrics": f"{config.api_url}/metrics; other processes on ports "
        + ", ".join(str(port) for name, port in config.ports.items() if name.endswith("_METRICS")),
        "Logs": str(config.logs / "stack.log"),
        "Try": f"curl -H 'Authorization: Token {token}' {config.api_url}/api/v1/sagas",
    }
    for name, place in places.items():
        console.print(f"[bold]{name:<10}[/] {place}", soft_wrap=True)
    end = "`make down` stops it" if DETACHED in os.environ else "Ctrl-C stops it"
    note(f"\nUp. {end}; `make demo` sells again; the data stays until `make clean`.\n")
