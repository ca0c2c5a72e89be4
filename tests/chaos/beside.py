"""Processes beside those of the world, or in their place: of another release, or with a wrong clock."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from stack import processes
from stack.config import Config
from stack.health import worker_inspector
from stack.ports import free_port
from stack.processes import Process
from tests.acceptance.client import Client
from tests.acceptance.running import Running, stop_all
from tests.acceptance.world import World

PORTS = ("PORT_API", "PORT_WORKER_METRICS")


def config_of(world: World, **environment: str) -> Config:
    """The world's configuration, but for ports of its own and what is given."""
    ports = {name: str(free_port()) for name in PORTS}
    return Config.parse({**world.environment, **ports, **environment})


def running(world: World, process: Process, config: Config) -> Running:
    """The process, not started yet, with the shop installed."""
    settings = {"DJANGO_SETTINGS_MODULE": "tests.acceptance.settings"}
    named = replace(process, environment={**process.environment, **settings})
    return Running(named, config.environment, world.folder)


def worker(world: World, name: str, queues: str, **environment: str) -> Running:
    """One more worker of two children on these queues."""
    config = config_of(world, **environment)
    inspector = worker_inspector(config.environment["REDIS_URL"])
    started = processes.worker(config, name, queues, 2, "PORT_WORKER_METRICS", inspector)
    return running(world, started, config)


def beat(world: World, name: str, **environment: str) -> Running:
    """One more beat, with a schedule of its own."""
    config = config_of(world, DATA_DIR=str(world.folder / name), **environment)
    (config.run / "beat").mkdir(parents=True)
    return running(world, replace(processes.beat(config), name=name), config)


def api(world: World, name: str, **environment: str) -> tuple[Running, Client]:
    """One more API, and the operator at it."""
    config = config_of(world, **environment)
    operator = replace(world.operator, api=config.api_url)
    return running(world, replace(processes.api(config), name=name), config), operator


@contextmanager
def started(*those: Running) -> Iterator[None]:
    """While the block runs, these run too."""
    try:
        for process in those:
            process.start()
        for process in those:
            process.wait_healthy()
        yield
    finally:
        stop_all(those)
