"""The app `participants.orders`."""

from django.apps import AppConfig


class OrdersConfig(AppConfig):
    """Its label is also its name as a participant and its database alias."""

    name = "participants.orders"
    label = "orders"
