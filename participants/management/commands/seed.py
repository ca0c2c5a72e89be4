"""`manage.py seed`: a plausible shop to try the system with."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from participants.contract.plenty import SIZES, fill
from participants.contract.seeding import seed


class Command(BaseCommand):
    """Adds what is missing of the demo data and of a shop of some size; what is there stays as it is."""

    help = (
        "Add the demo data that is missing at the participants, and for a size other than demo a shop of "
        "that size, which is the same for the same --seed; what is there is kept."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """How much, and which of all possible shops."""
        parser.add_argument(
            "--size",
            choices=SIZES,
            default="demo",
            help="; ".join(
                f"{name}: {size.store_count * size.product_count:,} rows of stock"
                for name, size in SIZES.items()
                if size.store_count
            ),
        )
        parser.add_argument("--seed", type=int, default=1, help="another number makes another shop")

    def handle(self, *args: Any, **options: Any) -> None:
        """Seed every participant of this project."""
        for name in settings.PARTICIPANT_NAMES:
            added = seed(name) + fill(name, SIZES[options["size"]], options["seed"])
            self.stdout.write(f"{name}: {added} rows added")
