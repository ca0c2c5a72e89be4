"""`manage.py sagas`: what an operator and a deployment need on the command line."""

from __future__ import annotations

import getpass
import json
import sys
from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection
from django.db.models import Count
from redis import RedisError

from sagas import breaker, bulk, dispatch, engine, graph, recovery, versions
from sagas.definition import registry
from sagas.errors import SagaError
from sagas.interventions import VERBS
from sagas.models import Saga, TypePause
from sagas.state import SagaState, Status


class Command(BaseCommand):
    """Inspect and steer sagas."""

    help = "Inspect and steer sagas: report, versions, types, graph, show, scan, circuits; all interventions."

    def add_arguments(self, parser: CommandParser) -> None:
        """One subcommand for each thing to do; interventions come from the engine's list of verbs."""
        commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
        commands.add_parser("report", help="totals, rates and mean durations per type and step")
        commands.add_parser("versions", help="versions in flight; fails if code for one is missing")
        commands.add_parser("types", help="every type: its versions here, sagas on their way, who paused it")
        commands.add_parser("circuits", help="the circuit breaker of every participant")
        commands.add_parser("scan", help="run the recovery and timeout scans once, now")
        close = commands.add_parser("close-circuit", help="close a participant's circuit by hand")
        close.add_argument("participant")
        close.add_argument("--reason", type=reason, required=True)
        chart = commands.add_parser("graph", help="a definition as a Mermaid flowchart")
        chart.add_argument("type")
        chart.add_argument("--saga", type=UUID, help="mark where this saga stands")
        show = commands.add_parser("show", help="one saga with its steps and its history")
        show.add_argument("id", type=UUID)
        for name in ("pause-type", "resume-type"):
            one = commands.add_parser(name, help=f"{name.split('-')[0]} all sagas of a type")
            one.add_argument("type")
            one.add_argument("--reason", type=reason, required=True)
        for verb in VERBS.values():
            self._add_verb(commands.add_parser(verb.name, help=verb.help), verb.arguments)

    def _add_verb(self, parser: CommandParser, arguments: tuple[str, ...]) -> None:
        parser.add_argument("ids", type=UUID, nargs="*", metavar="ID")
        statuses = [status.value for status in Status]
        parser.add_argument(
            "--status", choices=statuses, metavar="STATUS", help="all sagas with this status instead of ids"
        )
        parser.add_argument("--type", help="only those of this type")
        parser.add_argument("--limit", type=int, default=100, help="at most so many (default 100)")
        parser.add_argument("--per-second", type=float, default=50, help="at most so many (default 50)")
        parser.add_argument("--dry-run", action="store_true", help="only say what would happen to each")
        parser.add_argument("--yes", action="store_true", help="do it to all that fit, without asking first")
        parser.add_argument("--reason", type=reason, required=True)
        parser.add_argument("--request-id", help="repeating a request under the same id is harmless")
        if "step" in arguments:
            parser.add_argument("--step", required=True)
        if "data" in arguments:
            parser.add_argument("--data", type=json.loads, default=None, help="the output, as JSON")
        if "undo" in arguments:
            parser.add_argument("--undo", action="store_true", help="undo it automatically if the saga turns")
        if "outcome" in arguments:
            parser.add_argument("--outcome", required=True, choices=["completed", "failed", "compensated"])
        if "deadline" in arguments:
            parser.add_argument("--deadline", required=True, type=datetime.fromisoformat)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the subcommand; the engine's refusals become the command's error."""
        command = options["command"]
        try:
            if command in VERBS:
                self.steer(command, options)
            else:
                getattr(self, command.replace("-", "_"))(options)
        except SagaError as error:
            raise CommandError(str(error)) from None

    # --- Steering

    def steer(self, verb: str, options: dict[str, Any]) -> None:
        """One verb on the sagas given, or on those found once somebody has seen what would become of them.

        One saga's refusal does not keep it from the others.
        """
        wish, selection = bulk.wish_of(verb, options), self._selection(options)
        order = bulk.Order(verb, getpass.getuser(), options["reason"], wish)
        request = options["request_id"] or str(uuid4())
        ids = bulk.found(selection, request)
        if options["dry_run"] or not (selection.ids or options["yes"]):
            counts = self._tell(ids, bulk.foretell(ids, verb, wish), selection, dry_run=True)
            if options["dry_run"] or not self._confirmed(verb, counts[bulk.Became.CHANGED]):
                return
        ids = bulk.settled(order, selection, request, ids)
        items = bulk.carry_out(order, ids, request, ring=ring, per_second=options["per_second"])
        counts = self._tell(ids, items, selection, dry_run=False)
        if refused := counts[bulk.Became.REFUSED]:
            raise CommandError(f"{refused} of the sagas refused {verb}")

    def _confirmed(self, verb: str, count: int) -> bool:
        """Whether somebody at a terminal says yes to what they were just told."""
        if not count:
            return False
        if not sys.stdin.isatty():
            self.stdout.write("nothing is done yet; the same with --yes does it")
            return False
        self.stdout.write(f"{verb} {count} of these? [y/N] ", ending="")
        self.stdout.flush()
        said = sys.stdin.readline().strip().lower()
        if said not in ("y", "yes"):
            self.stdout.write("nothing is done")
        return said in ("y", "yes")

    def _tell(
        self, ids: list[UUID], items: Iterable[bulk.Item], selection: bulk.Selection, *, dry_run: bool
    ) -> Counter[bulk.Became]:
        """A line a saga, as it is known, and their sum."""
        known = {saga.pk: saga for saga in Saga.objects.filter(pk__in=ids).only("type", "status")}
        counts = Counter[bulk.Became]()
        for item in items:
            counts[item.became] += 1
            before = f"{known[item.id].type} {known[item.id].status}: " if item.id in known else ""
            self.stdout.write(f"{item.id}  {before}{said(item, dry_run=dry_run)}")
        self._sum_up(counts, selection)
        return counts

    def _sum_up(self, counts: Counter[bulk.Became], selection: bulk.Selection) -> None:
        if selection.type and selection.type not in registry.types():
            self.stderr.write(
                f"no code for {selection.type!r} here; installed: {', '.join(registry.types())}"
            )
        if not selection.ids and counts.total() >= selection.limit:
            self.stderr.write(f"these are the oldest {selection.limit}; --limit takes more")
        parts = [f"{count} {became}" for became, count in counts.items()]
        self.stdout.write(", ".join(parts) or "no saga is chosen by that")

    def _selection(self, options: dict[str, Any]) -> bulk.Selection:
        if options["ids"] and (options["status"] or options["type"]):
            raise CommandError("give ids, or a filter by --status and --type, not both")
        if not options["ids"] and not options["status"]:
            raise CommandError("give the ids of sagas, or --status (and --type) to choose them")
        if options["per_second"] <= 0 or options["limit"] <= 0:
            raise CommandError("--limit and --per-second are more than nothing")
        return bulk.Selection(
            tuple(options["ids"]), options["status"] or "", options["type"] or "", options["limit"]
        )

    def pause_type(self, options: dict[str, Any]) -> None:
        """Let nothing more of a type be claimed."""
        new = engine.pause_type(options["type"], actor=getpass.getuser(), reason=options["reason"])
        state = "is paused" if new else "was paused before"
        self.stdout.write(f"{options['type']} {state}; sagas are still accepted and wait")

    def resume_type(self, options: dict[str, Any]) -> None:
        """End a pause."""
        was = engine.resume_type(options["type"], actor=getpass.getuser(), reason=options["reason"])
        state = "goes on with the next recovery scan" if was else "was not paused"
        self.stdout.write(f"{options['type']} {state}")

    def types(self, options: dict[str, Any]) -> None:
        """Every type that is installed, on its way or paused."""
        pauses = {pause.type: pause for pause in TypePause.objects.all()}
        flying = dict(Saga.objects.active().order_by().values_list("type").annotate(Count("pk")))
        versions: dict[str, list[str]] = {name: [] for name in (*pauses, *flying)}
        for saga_type, version in sorted(registry.by_key):
            versions.setdefault(saga_type, []).append(f"v{version}")
        rows = [
            (name, " ".join(here) or "no code here", flying.get(name, 0), paused(pauses.get(name)))
            for name, here in sorted(versions.items())
        ]
        self._table(("type", "versions", "on their way", "paused"), rows)

    def scan(self, options: dict[str, Any]) -> None:
        """What beat does, by hand."""
        interrupted, overdue = recovery.recover(), recovery.expire()
        self.stdout.write(f"looked at {interrupted} interrupted and {overdue} overdue sagas")

    def close_circuit(self, options: dict[str, Any]) -> None:
        """Forget a participant's failures."""
        name = options["participant"]
        try:
            engine.close_circuit(name, actor=getpass.getuser(), reason=options["reason"])
        except RedisError as error:
            raise CommandError(f"Redis is out of reach, where the circuits are kept: {error}") from None
        self.stdout.write(f"the circuit of {name} is closed")

    # --- Looking

    def circuits(self, options: dict[str, Any]) -> None:
        """A line a participant."""
        for name, shown in breaker.inspect().items():
            facts = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in shown.items() if k != "state")
            self.stdout.write(f"{name:<16}{shown['state']:<12}{facts}")

    def graph(self, options: dict[str, Any]) -> None:
        """Mermaid on standard output."""
        state = engine.load(options["saga"]) if options["saga"] else None
        definition = registry.latest(options["type"])
        if state is not None:
            definition = registry.get(state.type, state.version)
        self.stdout.write(graph.mermaid(definition, state), ending="")

    def show(self, options: dict[str, Any]) -> None:
        """Steps, then history."""
        state = engine.load(options["id"])
        self.stdout.write(f"{state.type} v{state.version}  {state.status}  epoch {state.epoch}")
        if state.error:
            self.stdout.write(f"  {state.error}")
        for step in state.steps:
            line = f"  {step.name:<28}{step.status:<20}attempts {step.attempts}  undo {step.undo_attempts}"
            self.stdout.write(line)
        for event in Saga.objects.get(id=state.id).events.order_by("id"):
            who = f" by {event.actor}: {event.reason}" if event.actor else ""
            self.stdout.write(f"  {event.at:%F %T.%f}  {event.kind:<24}{event.step}{who}")

    def versions(self, options: dict[str, Any]) -> None:
        """A gate for deployments: exit status 1 if a saga in flight has no code here."""
        for saga_type, version, count in versions.in_flight():
            known = versions.has_code(saga_type, version)
            self.stdout.write(f"{saga_type} v{version}: {count} in flight{'' if known else '  NO CODE HERE'}")
        missing = versions.without_code()
        if missing:
            raise CommandError(f"no code for {', '.join(missing)}: {versions.MEND}")
        self.stdout.write("every saga in flight has its code")

    def report(self, options: dict[str, Any]) -> None:
        """Totals and rates per type, then mean durations per step."""
        with connection.cursor() as cursor:
            cursor.execute(REPORT_TYPES)
            self._table(("type", "total", "completed", "compensated", "failed", "parked", "mean s"), cursor)
            cursor.execute(REPORT_STEPS)
            self.stdout.write("")
            self._table(("type", "step", "done", "failed", "undone", "attempts", "mean ms"), cursor)

    def _table(self, head: tuple[str, ...], rows: Any) -> None:
        cells = [head, *([str(cell) for cell in row] for row in rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
        for row in cells:
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.stdout.write(line.rstrip())


def reason(given: str) -> str:
    """Why somebody intervenes, which is never blank."""
    if not given.strip():
        raise ArgumentTypeError("say why")
    return given.strip()


def ring(state: SagaState, due: Sequence[int]) -> None:
    """Ring the workers for what became due."""
    dispatch.ring(state, due, engine.clock.now())


def paused(pause: TypePause | None) -> str:
    """Since when, by whom and why, in words."""
    return f"since {pause.at:%F %T} by {pause.actor}: {pause.reason}" if pause is not None else "no"


def said(item: bulk.Item, *, dry_run: bool) -> str:
    """What became of one saga, or would, in words."""
    if item.became is bulk.Became.REFUSED:
        return f"refused: {item.detail}"
    if not dry_run:
        return f"is {item.status}"
    if not item.status:
        return f"would be {item.detail}"
    return f"would be {item.status}{f': {item.detail}' if item.detail else ''}"


# SQL because these are aggregates over whole tables, read by people now and then.
REPORT_TYPES = """
SELECT type, count(*),
       to_char(100.0 * avg((status = 'completed')::int), 'FM990.0') || ' %',
       to_char(100.0 * avg((status = 'compensated')::int), 'FM990.0') || ' %',
       to_char(100.0 * avg((status = 'failed')::int), 'FM990.0') || ' %',
       count(*) FILTER (WHERE status IN ('parked', 'compensation_failed')),
       coalesce(to_char(avg(extract(epoch FROM finished_at - created_at)), 'FM999990.000'), '-')
FROM sagas_saga GROUP BY 1 ORDER BY 1"""
REPORT_STEPS = """
SELECT s.type, t.name, count(*) FILTER (WHERE t.status IN ('completed', 'compensated', 'compensating')),
       count(*) FILTER (WHERE t.status = 'failed'), count(*) FILTER (WHERE t.status = 'compensated'),
       coalesce(to_char(avg(nullif(t.attempts, 0)), 'FM990.00'), '-'),
       coalesce(to_char(1000 * avg(extract(epoch FROM t.finished_at - t.started_at)), 'FM9999990.0'), '-')
FROM sagas_sagastep t JOIN sagas_saga s ON s.id = t.saga_id GROUP BY 1, 2, t.position 
ORDER BY 1, t.position"""
