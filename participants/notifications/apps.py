"""The app `participants.notifications`."""

from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    """Its label is also its name as a participant and its database alias."""

    name = "participants.notifications"
    label = "notifications"
