"""The app `participants.catalogue`."""

from django.apps import AppConfig


class CatalogueConfig(AppConfig):
    """Its label is also its name as a participant and its database alias."""

    name = "participants.catalogue"
    label = "catalogue"
