"""Imports every definition of this app, so that the engine discovers them."""

from sagas.retail import (
    checkout,
    order,
    purchase,
    replenishment,
    returns,
    sales,
    store_opening,
    transfer,
)

__all__ = [
    "checkout",
    "order",
    "purchase",
    "replenishment",
    "returns",
    "sales",
    "store_opening",
    "transfer",
]
