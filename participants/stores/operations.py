"""What sagas ask of the stores."""

from participants.contract.bodies import Body, Identifier
from participants.contract.outcomes import Outcome, Refused, unprocessable
from participants.contract.service import Call, Service
from participants.stores.models import Store

service = Service("stores")


class StoreInfo(Body):
    """One store."""

    store_id: Identifier


class CheckStores(Body):
    """Two stores between which goods are to be moved."""

    source_store_id: Identifier
    destination_store_id: Identifier


@service.query("store-info", method="GET")
def store_info(body: StoreInfo, call: Call) -> Outcome:
    """Tell name, city and opening hours of a store."""
    return told(active(body.store_id))


@service.query("check-stores")
def check_stores(body: CheckStores, call: Call) -> Outcome:
    """Check that two different stores exist and are active."""
    if body.source_store_id == body.destination_store_id:
        return unprocessable("same_store", "Source and destination are one store.")
    return {
        "source": told(active(body.source_store_id)),
        "destination": told(active(body.destination_store_id)),
    }


def active(store_id: int) -> Store:
    """The store; raises Refused if there is none or it is given up."""
    store = Store.objects.filter(pk=store_id).first()
    if store is None:
        raise unprocessable("unknown_store", f"There is no store {store_id}.")
    if not store.active:
        raise Refused("store_inactive", f"Store {store_id} is not active.")
    return store


def told(store: Store) -> dict[str, object]:
    """A store as an answer tells it."""
    return {
        "store_id": store.pk,
        "name": store.name,
        "city": store.city,
        "opens_at": store.opens_at,
        "closes_at": store.closes_at,
    }
