"""The app `participants.inventory`."""

from django.apps import AppConfig


class InventoryConfig(AppConfig):
    """Its label is also its name as a participant and its database alias."""

    name = "participants.inventory"
    label = "inventory"
