"""`manage.py events`: the processes of the choreography, and what an operator does with events."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.forms.models import model_to_dict

from sagas.choreography import deadletters, keys, partitions, privacy, projections, running, store
from sagas.choreography.conf import conf
from sagas.choreography.events import cloudevent
from sagas.choreography.models import DeadLetter
from sagas.choreography.topics import registry
from sagas.errors import NotAllowed, SagaError

ALL = "all"


class Command(BaseCommand):
    """One subcommand for each process and each thing to do."""

    help = "Run relay and consumers; inspect, redrive, rebuild, anonymise; keep partitions."

    def add_arguments(self, parser: CommandParser) -> None:
        """The subcommands."""
        commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
        consume = commands.add_parser("consume", help="consume events until told to stop")
        consume.add_argument("group", nargs="+", choices=[ALL, *registry.groups], metavar="GROUP")
        consume.add_argument("--workers", type=int, default=2, help="threads a group (default 2)")
        relay = commands.add_parser("relay", help="take events from the outbox to the streams, and upkeep")
        for one in (consume, relay):
            one.add_argument("--metrics-port", type=int, default=0, help="serve metrics there")
            one.add_argument("--metrics-address", default="127.0.0.1", help="on this interface (loopback)")
        dead = commands.add_parser("dead-letters", help="events that a group could not handle")
        dead.add_argument("action", choices=["list", "show", "redrive", "settle"])
        dead.add_argument("ids", type=int, nargs="*", metavar="ID")
        dead.add_argument("--all", action="store_true", help="redrive all that wait")
        dead.add_argument("--reason", default="", help="why a letter is settled without being redriven")
        dead.add_argument("--group", help="only those of this group")
        rebuild = commands.add_parser("rebuild", help="rebuild a read model from the store")
        rebuild.add_argument("name", help="such as orders-by-client")
        anonymise = commands.add_parser("anonymise", help="destroy the key of a client's personal data")
        anonymise.add_argument("--client", type=int, required=True)
        commands.add_parser("rewrap", help="wrap all clients' keys with the first of CHOREOGRAPHY['KEYS']")
        replay = commands.add_parser("replay", help="the history of one stream")
        replay.add_argument("stream", type=UUID)
        parts = commands.add_parser("partitions", help="make partitions ahead, drop old ones, list them")
        parts.add_argument("--ahead", type=int, help="days (default: as configured)")
        parts.add_argument("--retention", type=int, help="days, at least 30 (default: as configured)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the subcommand."""
        try:
            getattr(self, options["command"].replace("-", "_"))(options)
        except (SagaError, LookupError, keys.WrongKey) as error:
            raise CommandError(str(error)) from None

    def consume(self, options: dict[str, Any]) -> None:
        """Consume until told to stop."""
        names = registry.groups if ALL in options["group"] else options["group"]
        crew = running.consumers([registry.groups[name] for name in names], options["workers"])
        self._run(crew, options)

    def relay(self, options: dict[str, Any]) -> None:
        """Relay until told to stop."""
        self._run(running.relays(), options)

    def _run(self, crew: running.Crew, options: dict[str, Any]) -> None:
        if not crew.run(options["metrics_port"], options["metrics_address"]):
            raise CommandError("a loop has died; the log says of what")

    def dead_letters(self, options: dict[str, Any]) -> None:
        """List, show, redrive or settle."""
        if options["action"] == "settle" and not (options["ids"] and options["reason"].strip()):
            raise CommandError("name the dead letters to settle, and say --reason")
        letters = deadletters.waiting()
        if options["group"]:
            letters = letters.filter(consumer=options["group"])
        if options["ids"]:
            letters = DeadLetter.objects.filter(pk__in=options["ids"])
        elif options["action"] != "list" and not options["all"]:
            raise CommandError("name the dead letters, or say --all")
        if options["action"] == "redrive":
            self._redrive(letters)
            return
        for letter in letters:
            if options["action"] == "settle":
                done = deadletters.settle(letter.pk, getpass.getuser(), options["reason"].strip())
                self.stdout.write(f"{letter.pk}  {'settled' if done else 'was dealt with before'}")
            elif options["action"] == "show":
                shown = {**model_to_dict(letter), "at": letter.at}
                self.stdout.write(json.dumps(shown, indent=2, cls=DjangoJSONEncoder))
            else:
                self.stdout.write(
                    f"{letter.pk}  {letter.at:%Y-%m-%d %H:%M:%S}  {letter.consumer}  {letter.type}  "
                    f"{letter.stream}  {letter.reason[:100]}"
                )

    def _redrive(self, letters: Iterable[DeadLetter]) -> None:
        """Redrive each that can be; those that cannot are named, and fail the command."""
        refused = []
        for letter in letters:
            try:
                done = deadletters.redrive(letter.pk, getpass.getuser())
            except NotAllowed as error:
                refused.append(str(error))
                continue
            self.stdout.write(f"{letter.pk}  {'on its way' if done else 'was redriven before'}")
        if refused:
            raise CommandError("; ".join(refused))

    def rebuild(self, options: dict[str, Any]) -> None:
        """Rebuild into a shadow and switch."""

        def say(progress: projections.Progress) -> None:
            self.stdout.write(f"day {progress.done} of {progress.days}: {progress.events} events")

        done = projections.rebuild(options["name"].replace("-", ""), say)
        self.stdout.write(f"{options['name']} is rebuilt from {done.events} events")

    def anonymise(self, options: dict[str, Any]) -> None:
        """Make what is known of a client unreadable."""
        done = privacy.anonymise(options["client"])
        if done is None:
            raise CommandError(f"nothing is known of client {options['client']}")
        self.stdout.write(f"{done.events} events are unreadable now, {done.rows} rows of read models deleted")

    def rewrap(self, options: dict[str, Any]) -> None:
        """Have the newest secret protect all clients' keys."""
        count = privacy.rewrap()
        self.stdout.write(f"{count} keys are wrapped anew; every key is under the first secret now")

    def replay(self, options: dict[str, Any]) -> None:
        """Print one stream."""
        events = store.history(options["stream"])
        if not events:
            raise CommandError(f"there is no stream {options['stream']}")
        for event in events:
            self.stdout.write(json.dumps(cloudevent(event)))

    def partitions(self, options: dict[str, Any]) -> None:
        """Make, drop, list."""
        ahead = conf().ahead if options["ahead"] is None else timedelta(days=options["ahead"])
        retention = conf().retention if options["retention"] is None else timedelta(days=options["retention"])
        if retention < timedelta(days=30):
            raise CommandError("events are kept for at least 30 days")
        astray = {table: partitions.strays(table) for table in partitions.TABLES}
        made, dropped = partitions.maintain(ahead, retention)
        for table, rows in astray.items():
            if rows:
                self.stdout.write(
                    f"{table}: {rows} rows came for a day without a partition, which has one now"
                )
        for table in partitions.TABLES:
            found = partitions.existing(table)
            size = sum(partition.bytes for partition in found)
            days = f"{found[0].day} to {found[-1].day}" if found else "none"
            self.stdout.write(f"{table}: {len(found)} partitions, {days}, {size // 1024} kB")
        self.stdout.write(f"{made} made, {len(dropped)} dropped")
