"""`manage.py participants`: the upkeep of the participants' databases."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils import timezone

from participants.contract.retention import prune
from participants.inventory.stock import expire_all_due


class Command(BaseCommand):
    """`prune` deletes keys past their retention, `expire` ends overdue reservations."""

    help = "prune: delete idempotency keys past their retention; expire: end overdue reservations."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """One verb."""
        parser.add_argument("verb", choices=["prune", "expire"])

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        """Do what the verb says, and tell how much there was to do."""
        if verb == "expire":
            self.stdout.write(f"{expire_all_due(timezone.now())} reservations expired")
            return
        for name in settings.PARTICIPANT_NAMES:
            self.stdout.write(f"{name}: {prune(name, timezone.now())} keys deleted")
