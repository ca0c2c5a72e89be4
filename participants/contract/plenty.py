"""A shop of any size, the same for the same seed: what each participant's `seed.plenty` makes rows from.

Every value is drawn from the seed and from what it is a value of, never from a row before it. Hence
a bigger shop holds the smaller one, and participants agree on ids without knowing one another.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from importlib import import_module
from typing import TypeVar

from django.apps import apps
from django.db import connections, transaction

from participants.contract.seeding import advance_sequence

T = TypeVar("T")
FIRST = ("Ana", "Ben", "Clara", "David", "Elif", "Farid", "Greta", "Hugo", "Inês", "Jonas", "Kaya", "Luca")
LAST = [
    "Almeida",
    "Berger",
    "Costa",
    "Dubois",
    "Eriksen",
    "Ferrari",
    "García",
    "Haas",
    "Ivanov",
    "Jansen",
    "Kowal",
    "Lopes",
    "Moreau",
    "Novák",
]
Row = tuple[object, ...]


@dataclass(frozen=True)
class Size:
    """How many there are of what; every store carries every product."""

    store_count: int
    product_count: int
    customer_count: int
    employees_a_store: int

    @property
    def stores(self) -> range:
        """Their ids, far from those that the demo has."""
        return range(1_001, 1_001 + self.store_count)

    @property
    def products(self) -> range:
        """Their ids."""
        return range(10_001, 10_001 + self.product_count)

    @property
    def customers(self) -> range:
        """Their ids, which are also those of their accounts."""
        return range(100_001, 100_001 + self.customer_count)

    def staff(self) -> Iterator[tuple[int, int]]:
        """Ids of employees, each with the store they work in."""
        for place in range(self.store_count * self.employees_a_store):
            yield 1_001 + place, self.stores[place // self.employees_a_store]


SIZES = {
    "demo": Size(0, 0, 0, 0),
    "small": Size(10, 500, 1_000, 5),
    "large": Size(50, 2_000, 20_000, 10),
    "million": Size(200, 5_000, 200_000, 10),
}


@dataclass(frozen=True)
class Draw:
    """Draws values by lot; the same for the same seed and words."""

    seed: int

    def below(self, end: int, *words: object) -> int:
        """A number from 0 to end - 1."""
        digest = blake2b(repr((self.seed, words)).encode(), digest_size=8).digest()
        return int.from_bytes(digest) % end

    def one_of(self, choices: Sequence[T], *words: object) -> T:
        """One of the choices."""
        return choices[self.below(len(choices), *words)]

    def money(self, least: int, most: int, *words: object) -> Decimal:
        """An amount between two whole ones, with cents."""
        return Decimal(100 * least + self.below(100 * (most - least), *words)) / 100

    def person(self, *words: object) -> str:
        """A name, which others may have as well."""
        return f"{self.one_of(FIRST, 'first', *words)} {self.one_of(LAST, 'last', *words)}"

    def chance(self, percent: int, *words: object) -> bool:
        """True so many times in a hundred."""
        return self.below(100, *words) < percent


@dataclass(frozen=True)
class Load:
    """Rows for the temporary table `load`, its columns, and the statement that takes them from there.

    The statement leaves alone what is there already. It is an INSERT, or selects how many were added.
    """

    columns: str
    rows: Iterable[Row]
    statement: str


def fill(participant: str, size: Size, seed: int) -> int:
    """Add what a participant's `seed.plenty` makes and is missing; tells how many rows."""
    module = import_module(f"participants.{participant}.seed")
    loads: Iterable[Load] = module.plenty(size, Draw(seed)) if hasattr(module, "plenty") else ()
    added = 0
    with transaction.atomic(using=participant):
        for load in loads:
            added += take_in(participant, load)
        if added:
            for model in apps.get_app_config(participant).get_models():
                advance_sequence(model)
    return added


def take_in(participant: str, load: Load) -> int:
    """Copy the rows to the server and insert them from there."""
    with connections[participant].cursor() as cursor:
        cursor.execute(f"CREATE TEMPORARY TABLE load ({load.columns})")
        with cursor.copy("COPY load FROM STDIN") as copy:
            for row in load.rows:
                copy.write_row(row)
        cursor.execute(load.statement)
        added = int(cursor.fetchone()[0] if cursor.description else cursor.rowcount)
        cursor.execute("DROP TABLE load")
    return added
