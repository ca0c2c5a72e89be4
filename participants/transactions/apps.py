"""The app `participants.transactions`."""

from django.apps import AppConfig


class TransactionsConfig(AppConfig):
    """Its label is also its name as a participant and its database alias."""

    name = "participants.transactions"
    label = "transactions"
