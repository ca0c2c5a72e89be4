"""The app of the retail sagas."""

from django.apps import AppConfig


class RetailConfig(AppConfig):
    """Holds definitions only; it has no tables."""

    name = "sagas.retail"
    verbose_name = "Retail sagas"
