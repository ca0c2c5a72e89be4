"""The app: discovers definitions, registers checks."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class SagasConfig(AppConfig):
    """The engine. Definitions are found in a module `sagas` of every installed app."""

    name = "sagas"
    verbose_name = "Sagas"

    def ready(self) -> None:
        """Import every app's definitions, the system checks, and what workers do at their start and end."""
        autodiscover_modules("sagas")
        from sagas import checks, lifecycle, logs  # noqa: F401  importing registers them

        logs.adopt()
