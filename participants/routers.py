"""Sends each participant's tables to the database of the participant, and nothing else there."""

from django.conf import settings
from django.db.models import Model


class ParticipantRouter:
    """App label `inventory` (of `participants.inventory`) lives in alias `inventory`, and alone."""

    def db_for_read(self, model: type[Model], **hints: object) -> str | None:
        """The alias of the model's participant, or no opinion."""
        return alias_of(model._meta.app_label)

    def db_for_write(self, model: type[Model], **hints: object) -> str | None:
        """The alias of the model's participant, or no opinion."""
        return alias_of(model._meta.app_label)

    def allow_relation(self, one: Model, other: Model, **hints: object) -> bool | None:
        """A relation never crosses the border of a participant."""
        labels = {one._meta.app_label, other._meta.app_label}
        if not any(alias_of(label) for label in labels):
            return None
        return len(labels) == 1

    def allow_migrate(self, db: str, app_label: str, **hints: object) -> bool | None:
        """A participant's tables in its own database only, other tables in none of these."""
        alias = alias_of(app_label)
        if alias is not None:
            return db == alias
        return False if alias_of(db) is not None else None


def alias_of(label: str) -> str | None:
    """The database alias of the participant named `label`; None if no participant has that name."""
    return label if label in settings.PARTICIPANT_NAMES else None
