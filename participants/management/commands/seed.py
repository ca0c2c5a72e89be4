"""`manage.py seed`: a small plausible shop to try the system with."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from participants.contract.seeding import seed


class Command(BaseCommand):
    """Adds the demo data that is missing; rows that are there stay as they are."""

    help = "Add the demo data that is missing at the participants; what is there is kept."

    def handle(self, *args: Any, **options: Any) -> None:
        """Seed every participant of this project."""
        for name in settings.PARTICIPANT_NAMES:
            self.stdout.write(f"{name}: {seed(name)} rows added")
