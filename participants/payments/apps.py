"""The app `participants.payments`."""

from django.apps import AppConfig


class PaymentsConfig(AppConfig):
    """Its label is also its name as a participant and its database alias."""

    name = "participants.payments"
    label = "payments"
