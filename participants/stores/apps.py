"""The app `participants.stores`."""

from django.apps import AppConfig


class StoresConfig(AppConfig):
    """Its label is also its name as a participant and its database alias."""

    name = "participants.stores"
    label = "stores"
