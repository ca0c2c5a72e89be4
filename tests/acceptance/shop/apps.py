"""The app of the processes under test."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """Definitions, and the places to crash at."""

    name = "tests.acceptance.shop"

    def ready(self) -> None:
        """Be ready to crash, where the tests ask for it."""
        from tests.acceptance.shop import crashes  # the engine needs its models loaded

        crashes.install()
