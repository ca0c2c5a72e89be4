"""Filters of the list of sagas. Each is answered by an index, or by the few sagas that are active."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.contrib.admin import SimpleListFilter
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from sagas import engine
from sagas.admin.looks import words
from sagas.definition import registry
from sagas.models import ACTIVE_VALUES, Saga, first_id
from sagas.state import Status

Narrow = Callable[[Any, datetime], "QuerySet[Saga]"]


def midnight(now: datetime) -> datetime:
    """When today began, in the project's time zone."""
    return timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)


class Choice(SimpleListFilter):
    """A filter whose choices are data: a value, its label, and how it narrows the list."""

    options: ClassVar[Mapping[str, tuple[str, Narrow]]]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Values and labels, in order."""
        return [(value, label) for value, (label, _) in self.options.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Saga]) -> QuerySet[Saga]:
        """The list narrowed; a value that is none of the options finds nothing."""
        value = self.value()
        if value is None:
            return queryset
        if value not in self.options:
            return queryset.none()
        return self.options[value][1](queryset, engine.clock.now())


class AttentionFilter(Choice):
    """What an operator should look at."""

    title = "attention"
    parameter_name = "attention"
    options: ClassVar[Mapping[str, tuple[str, Narrow]]] = {
        "person": ("needs a person", lambda sagas, now: sagas.needing_a_person()),
        "stuck": ("stuck for over 5 minutes", lambda s, now: s.stuck(now)),
        "overdue": ("past its deadline", lambda sagas, now: sagas.overdue(now)),
    }


def _having(*statuses: str) -> Narrow:
    return lambda sagas, now: sagas.filter(status__in=statuses)


class StatusFilter(Choice):
    """One status, or all those that move."""

    title = "status"
    parameter_name = "status"
    options: ClassVar[Mapping[str, tuple[str, Narrow]]] = {
        "active": ("active", _having(*ACTIVE_VALUES)),
        **{status.value: (words(status), _having(status.value)) for status in Status},
    }


class StartedFilter(Choice):
    """By age."""

    title = "started"
    parameter_name = "started"
    options: ClassVar[Mapping[str, tuple[str, Narrow]]] = {
        "hour": ("in the last hour", lambda s, now: s.filter(id__gte=first_id(now - timedelta(hours=1)))),
        "today": ("today", lambda s, now: s.filter(id__gte=first_id(midnight(now)))),
        "over-hour": ("over an hour ago", lambda s, now: s.filter(id__lt=first_id(now - timedelta(hours=1)))),
        "over-day": ("over a day ago", lambda s, now: s.filter(id__lt=first_id(now - timedelta(days=1)))),
    }


class TypeFilter(SimpleListFilter):
    """By type, of those that this process has code for."""

    title = "type"
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The installed types."""
        return [(saga_type, saga_type) for saga_type in registry.types()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Saga]) -> QuerySet[Saga]:
        """The sagas of the chosen type, installed or not."""
        return queryset if self.value() is None else queryset.filter(type=self.value())
