"""`manage.py compare`: the same checkout, orchestrated and choreographed, side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from sagas.choreography.comparing import (
    Choreographed,
    Load,
    Measured,
    Orchestrated,
    Pattern,
    Run,
    percentile,
    refusing,
)
from sagas.choreography.topics import registry

# What the reference system claims for 50 users, and what it aimed at.
REFERENCE = {
    "orchestrated": {
        "reference: mean": "1.8 s",
        "reference: p95": "2.1 s",
        "reference: ended a minute": "30",
        "target: p95": "< 2 s",
        "target: ended a minute": "> 25",
        "target: stock released": "< 5 s",
    },
    "choreographed": {
        "reference: mean": "0.3 s",
        "reference: p95": "0.45 s",
        "reference: ended a minute": "120",
        "target: p95": "< 0.5 s",
        "target: ended a minute": "> 100",
        "target: stock released": "< 5 s",
    },
}


class Command(BaseCommand):
    """Needs a running stack: participants, a worker, the relay and consumers."""

    help = "Run the same checkout in both patterns and print the numbers side by side."

    def add_arguments(self, parser: CommandParser) -> None:
        """How much, how fast, of what."""
        parser.add_argument("--users", type=int, default=50)
        parser.add_argument("--checkouts", type=int, default=200, help="in each pattern (default 200)")
        parser.add_argument("--rate", type=float, default=10.0, help="starts a second; 0: no pauses")
        parser.add_argument("--failing", type=int, default=10, help="percent refused by orders, and undone")
        parser.add_argument("--patience", type=float, default=60.0, help="seconds to wait for one end")
        parser.add_argument("--saga", default="checkout_saga")
        parser.add_argument("--topic", default="ecommerce.checkout.events", choices=sorted(registry.topics))
        parser.add_argument("--store", type=int, default=1)
        parser.add_argument("--product", type=int, default=457)
        parser.add_argument("--client", type=int, default=123)
        parser.add_argument("--output", type=Path, help="write the numbers as JSON too")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run both, print the table."""
        end_refusals = refusing("orders", "create-order") if options["failing"] else None
        if options["failing"] and end_refusals is None:
            self.stderr.write(
                "Participants take no faults (start them with PARTICIPANTS_FAULTS=1), so nothing is refused."
            )
        names = ("users", "checkouts", "rate", "store", "product", "client")
        load = Load(
            **{name: options[name] for name in names},
            failing=options["failing"] if end_refusals is not None else 0,
        )
        patterns: list[Pattern] = [
            Orchestrated(options["saga"]),
            Choreographed(registry.topics[options["topic"]]),
        ]
        try:
            found = {pattern.name: self._run(pattern, load, options["patience"]) for pattern in patterns}
        finally:
            if end_refusals is not None:
                end_refusals()
        self._print(load, found)
        if options["output"]:
            options["output"].write_text(json.dumps({n: figures(m) for n, m in found.items()}, indent=2))
        if any(one.ended < one.started for one in found.values()):
            raise CommandError("not all have ended: are worker, relay and consumers running?")

    def _run(self, pattern: Pattern, load: Load, patience: float) -> Measured:
        warm = Load(**{**{n: getattr(load, n) for n in load.__slots__}, "users": 1, "checkouts": 2})
        Run(pattern, warm, patience).go()
        return Run(pattern, load, patience).go()

    def _print(self, load: Load, found: dict[str, Measured]) -> None:
        pace = f"{load.rate:g} starts a second" if load.rate else "no pauses"
        self.stdout.write(f"{load.users} users, {load.checkouts} checkouts in each pattern, {pace}\n\n")
        tables = {name: figures(one) for name, one in found.items()}
        self.stdout.write(f"{'':<28}" + "".join(f"{name:>16}" for name in tables))
        for row in next(iter(tables.values())):
            cells = "".join(f"{shown(table[row]):>16}" for table in tables.values())
            self.stdout.write(f"{row:<28}{cells}")
        for row in next(iter(REFERENCE.values())):
            cells = "".join(f"{REFERENCE[name][row]:>16}" for name in tables)
            self.stdout.write(f"{row:<28}{cells}")


def figures(one: Measured) -> dict[str, float]:
    """The rows of the table."""
    return {
        "started": one.started,
        "ended": one.ended,
        "success rate %": round(100 * one.succeeded / one.started, 1) if one.started else 0.0,
        "mean s": round(sum(one.seconds) / len(one.seconds), 4) if one.seconds else 0.0,
        "p50 s": round(percentile(one.seconds, 50), 4),
        "p95 s": round(percentile(one.seconds, 95), 4),
        "p99 s": round(percentile(one.seconds, 99), 4),
        "ended a minute": round(one.per_minute, 1),
        "events stored": one.events,
        "compensations": one.compensations,
        "stock released, p50 s": round(percentile(one.releases, 50), 4),
        "stock released, slowest s": round(max(one.releases, default=0.0), 4),
    }


def shown(value: float) -> str:
    """A cell."""
    return f"{value:g}"
