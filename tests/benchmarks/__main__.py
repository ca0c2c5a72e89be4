"""`python -m tests.benchmarks`: measures, prints a table, writes `build/bench.json`.

Ends with 1 if a target is missed, except where others disturbed the rounds: then it says to measure again.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import django
import psycopg

from stack.config import ROOT
from stack.errors import Trouble
from tests.benchmarks.stage import Stage, stage, worker

ENGINES = ("bare-celery", "chain", "inline")
OUTPUT = ROOT / "build" / "bench.json"


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--burst", type=int, default=120, help="sagas started at once, per round")
    parser.add_argument("--lone", type=int, default=25, help="sagas one at a time, per round")
    parser.add_argument("--open-loop", type=int, default=25, help="sagas at 20 a second, per round")
    parser.add_argument(
        "--patience", type=float, default=5.0, help="seconds to wait for an idle machine before each load"
    )
    parser.add_argument(
        "--durable", action="store_true", help="fsync and append-only file on; else off, as in tests"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT)
    return parser.parse_args(given)


def say(text: str) -> None:
    """Print one line at once."""
    print(text, flush=True)


def main(given: Sequence[str]) -> int:
    """0 when everything was measured; 1 when it could not be, or a target is missed on a quiet machine."""
    options = arguments(given)
    try:
        with stage(durable=options.durable) as on:
            prepare(on)
            found, missed = measured(on, options)
    except Trouble as trouble:
        say(str(trouble))
        return 1
    say(found)
    say(f"\nWritten to {options.output}")
    return 1 if missed else 0


def prepare(on: Stage) -> None:
    """Make this process a client of the stage, and the database ready."""
    os.environ.update(on.environment)
    from django.conf import settings
    from django.core.management import call_command

    from stack.prepare import create

    create(settings.DATABASES["default"])
    django.setup()
    # This process writes the same log lines as an API process would, but not into the table.
    logging.getLogger().handlers = [handler_to(on.driver_log)]
    call_command("migrate", database="default", verbosity=0, interactive=False)


def handler_to(path: Path) -> logging.Handler:
    """The handler that Django's settings have set up, writing to a file."""
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(path.open("w"))
    return handler


def measured(on: Stage, options: argparse.Namespace) -> tuple[str, bool]:
    """Run it all; returns the table, and whether a target is missed."""
    from sagaproject.celery import app
    from tests.benchmarks import report
    from tests.benchmarks.load import Runner
    from tests.benchmarks.measure import Bench, Sizes
    from tests.benchmarks.runners import BareChain, Chain, Inline
    from tests.benchmarks.workload.counting import counters

    app.set_default()

    def answers() -> bool:
        return bool(app.control.ping(timeout=0.5))

    sizes = Sizes(options.rounds, options.burst, options.lone, options.open_loop, options.patience)
    url = on.environment["DATABASE_URL"]
    with psycopg.connect(url, autocommit=True) as database, worker(on, answers) as working:
        machine = report.machine(database, on.environment["REDIS_URL"], sizes, durable=options.durable)
        say("; ".join(facts(machine)))
        contenders: list[Runner] = [BareChain(on.peer_port), Chain(database), Inline(database)]
        chosen = [one for one in contenders if one.name in options.engines]
        bench = Bench({"worker": working, **on.processes}, database, counters())
        rows = report.rows(bench.run(chosen, sizes, say), machine)
    report.write(options.output, rows)
    return f"\n{report.table(rows)}", report.missed(rows)


def facts(machine: dict[str, Any]) -> list[str]:
    """The machine in words."""
    server = machine["postgresql"]
    return [
        f"{machine['cpus']} x {machine['cpu']}",
        f"Python {machine['python']}",
        f"PostgreSQL {server['server_version']}, fsync {server['fsync']}",
        f"Redis {machine['redis']['version']}, append-only file {machine['redis']['appendonly']}",
        f"load {machine['load_before']}",
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
