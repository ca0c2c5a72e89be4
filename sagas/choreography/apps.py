"""The app: discovers topics, registers its checks, makes partitions whenever one migrates."""

from typing import Any

import structlog
from django.apps import AppConfig
from django.db import DEFAULT_DB_ALIAS, OperationalError
from django.db.models.signals import post_migrate
from django.utils.module_loading import autodiscover_modules

log = structlog.get_logger(__name__)


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
        post_migrate.connect(make_partitions, sender=self)


def make_partitions(using: str, plan: Any = (), **_: Any) -> None:
    """The days ahead, also where migrating found nothing to change; readers are not kept waiting for it."""
    from sagas.choreography import partitions
    from sagas.choreography.conf import conf

    if using != DEFAULT_DB_ALIAS or any(backwards for _, backwards in plan) or not partitions.possible():
        return
    try:
        partitions.secure(conf().ahead)
    except OperationalError as error:
        log.warning("no partitions made, the relay or beat will", error=str(error).strip())
