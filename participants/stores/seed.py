"""Demo data: two stores."""

from collections.abc import Iterator
from datetime import time

from django.db.models import Model

from participants.contract.plenty import Draw, Load, Row, Size
from participants.stores.models import Store

PLACES = ["Market Square", "Station", "Old Town", "Harbour", "Park Lane", "Riverside", "Hilltop", "Castle"]
CITIES = ["Lisbon", "Porto", "Braga", "Coimbra", "Faro", "Évora", "Aveiro", "Setúbal", "Viseu", "Leiria"]


def rows() -> Iterator[Model]:
    """Stores 1 and 2."""
    yield Store(id=1, name="Old Town", city="Lisbon", opens_at=time(8), closes_at=time(20))
    yield Store(id=2, name="Harbour", city="Porto", opens_at=time(9), closes_at=time(21))


def plenty(size: Size, draw: Draw) -> Iterator[Load]:
    """More stores, in the towns of one country."""

    def stores() -> Iterator[Row]:
        for store in size.stores:
            place = draw.one_of(PLACES, "place", store)
            opens = draw.one_of((time(7), time(8), time(9)), "opens", store)
            closes = draw.one_of((time(19), time(20), time(22)), "closes", store)
            yield store, f"{place} {store}", draw.one_of(CITIES, "city", store), opens, closes, True

    yield Load(
        "id bigint, name text, city text, opens_at time, closes_at time, active boolean",
        stores(),
        "INSERT INTO stores_store (id, name, city, opens_at, closes_at, active) "
        "SELECT * FROM load ON CONFLICT DO NOTHING",
    )
