"""The app that holds what all participants share: the router and the commands."""

from django.apps import AppConfig


class ParticipantsConfig(AppConfig):
    """Commands `seed` and `participants`; no tables of its own."""

    name = "participants"
