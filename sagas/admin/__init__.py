"""The operators' pages in Django's admin. They show, ask why, call an engine verb; no rules here."""

from sagas.admin import circuits, heartbeats, held, sagas, types, webhooks

__all__ = ["circuits", "heartbeats", "held", "sagas", "types", "webhooks"]
