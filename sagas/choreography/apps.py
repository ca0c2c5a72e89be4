"""The app: discovers topics, and registers its checks."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class ChoreographyConfig(AppConfig):
    """The mechanism. Topics are found in a module or package `choreography` of every installed app."""

    name = "sagas.choreography"
    label = "choreography"
    verbose_name = "Choreography"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Import every app's topics, with their groups."""
        from sagas.choreography import checks  # noqa: F401  # importing registers them

        autodiscover_modules("choreography")
