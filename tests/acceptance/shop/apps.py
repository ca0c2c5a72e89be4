"""The app of the processes under test."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """Definitions, places to crash at, clocks that are wrong; and waits as short as the tests'."""

    name = "tests.acceptance.shop"

    def ready(self) -> None:
        """Be ready to go wrong, where the tests ask for it."""
        from sagas import tasks  # the engine needs its models loaded
        from tests.acceptance.shop import clocks, crashes

        tasks.PUT_BACK_AFTER = 0.5
        crashes.install()
        clocks.install()
