"""`manage.py participants`: the upkeep of the participants' databases, and the check of any participant."""

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from pydantic import TypeAdapter, ValidationError

from participants.contract.conformance import examine, obstacle
from participants.contract.credentials import credentials
from participants.contract.registry import served
from participants.contract.retention import prune
from participants.contract.tending import Chore, stopped_by_signals, tend
from participants.contract.trials import Target, Trial
from participants.inventory.stock import expire_all_due

PRUNING = timedelta(hours=1)


class Command(BaseCommand):
    """`tend` keeps the databases in order: `expire` and `prune` round by round; `conformance` checks."""

    help = (
        "prune: delete idempotency keys past their retention; expire: end overdue reservations; "
        "tend: do both again and again; "
        "conformance URL: check that the participant at URL keeps the contract (participants/README.md)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """One verb with what it needs."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        verbs.add_parser("prune")
        verbs.add_parser("expire")
        tend = verbs.add_parser("tend")
        tend.add_argument("--every", type=float, default=30.0, help="seconds between two expiries")
        tend.add_argument("--mark", type=Path, help="a file to touch after each good round")
        check = verbs.add_parser("conformance")
        check.add_argument(
            "url", help="where the participant answers, such as http://127.0.0.1:8001/inventory"
        )
        check.add_argument(
            "--participant", default="", help="whose trials; default: the last part of the URL"
        )
        check.add_argument("--trials", type=Path, help="a JSON file with trials for operations of your own")
        check.add_argument("--credential", help="default: the first that we would accept")

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        """Do what the verb says, and tell how much there was to do."""
        if verb == "conformance":
            self.conformance(**options)
        elif verb == "tend":
            self.tend(**options)
        elif verb == "expire":
            self.stdout.write(f"{expire_all_due(timezone.now())} reservations expired")
        else:
            for name in settings.PARTICIPANT_NAMES:
                self.stdout.write(f"{name}: {prune(name, timezone.now())} keys deleted")

    def tend(self, every: float, mark: Path | None, **options: Any) -> None:
        """Expire and prune what this process serves, until SIGTERM or SIGINT."""
        names = [service.name for service in served()]
        chores = [Chore(f"prune {name}", partial(pruned, name), PRUNING) for name in names]
        if "inventory" in names:
            chores.append(Chore("expire reservations", expired, timedelta(seconds=every)))
        with stopped_by_signals() as stop:
            tend(chores, stop, mark)

    def conformance(
        self, url: str, participant: str, trials: Path | None, credential: str | None, **options: Any
    ) -> None:
        """Check a participant and print every finding; fails if there is one."""
        if urlsplit(url).scheme not in ("http", "https"):
            raise CommandError(f"{url!r} is no URL; give one such as http://127.0.0.1:8001/inventory")
        name = participant or urlsplit(url).path.split("/")[-1]
        chosen = trials_in(trials) if trials else trials_of(name)
        target = Target(url, credential or next(iter(credentials(name)), ""))
        if in_the_way := obstacle(target):
            raise CommandError(in_the_way)
        found = 0
        for finding in examine(target, chosen):
            found += 1
            self.stdout.write(self.style.ERROR(str(finding)))
        if found:
            raise CommandError(f"{url} breaks the contract in {found} places.")
        self.stdout.write(self.style.SUCCESS(f"{url} keeps the contract in {len(chosen)} operations."))


def pruned(participant: str) -> int:
    """Prune as of now."""
    return prune(participant, timezone.now())


def expired() -> int:
    """Expire as of now."""
    return expire_all_due(timezone.now())


def trials_of(participant: str) -> Sequence[Trial]:
    """The trials that come with one of this project's participants."""
    if participant not in settings.PARTICIPANT_NAMES:
        known = ", ".join(settings.PARTICIPANT_NAMES)
        raise CommandError(f"No trials for {participant!r}: give --trials FILE, or --participant of {known}.")
    trials: Sequence[Trial] = import_module(f"participants.{participant}.trials").TRIALS
    return trials


def trials_in(path: Path) -> Sequence[Trial]:
    """The trials in a JSON file, a list of objects with the fields of `Trial`."""
    try:
        return TypeAdapter(list[Trial]).validate_python(json.loads(path.read_text()))
    except (OSError, ValueError, ValidationError) as wrong:
        raise CommandError(f"{path} holds no trials: {wrong}") from wrong
