"""Demo data: two stores."""

from collections.abc import Iterator
from datetime import time

from django.db.models import Model

from participants.stores.models import Store


def rows() -> Iterator[Model]:
    """Stores 1 and 2."""
    yield Store(id=1, name="Old Town", city="Lisbon", opens_at=time(8), closes_at=time(20))
    yield Store(id=2, name="Harbour", city="Porto", opens_at=time(9), closes_at=time(21))
