"""The app `participants.supply_chain`."""

from django.apps import AppConfig


class SupplyChainConfig(AppConfig):
    """Its label is also its name as a participant and its database alias."""

    name = "participants.supply_chain"
    label = "supply_chain"
