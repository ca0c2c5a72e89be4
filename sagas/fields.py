"""Columns whose rules PostgreSQL keeps, at no cost to the statements that are counted in microseconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

if TYPE_CHECKING:  # the class is generic for the type checker only
    CharField = models.CharField[str, str]
else:
    CharField = models.CharField


class StatusField(CharField):
    """One of an enum's members, of a domain in PostgreSQL that knows just these.

    A domain, because the check constraints of a table are parsed afresh by every statement that
    writes to it (a fifth of the server's time for a step), while a session keeps those of a domain.
    A migration makes the domain before the column; the enum's members must be those of the domain.
    """

    def __init__(self, *args: Any, domain: str, **kwargs: Any) -> None:
        self.domain = domain
        super().__init__(*args, **kwargs)

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        """The domain's name."""
        return self.domain

    def deconstruct(self) -> tuple[str, str, Sequence[Any], dict[str, Any]]:
        """As of every field, with the domain."""
        name, path, args, kwargs = super().deconstruct()
        return name, path, args, {**kwargs, "domain": self.domain}
