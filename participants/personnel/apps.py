"""The app `participants.personnel`."""

from django.apps import AppConfig


class PersonnelConfig(AppConfig):
    """Its label is also its name as a participant and its database alias."""

    name = "participants.personnel"
    label = "personnel"
