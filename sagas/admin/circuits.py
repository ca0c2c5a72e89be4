"""Circuits of participants that people have closed: which, when, who and why."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin
from django.utils.safestring import SafeString

from sagas import engine
from sagas.admin.looks import clock
from sagas.admin.paging import BoundedPaginator
from sagas.admin.readonly import ReadOnlyAdmin
from sagas.models import CircuitEvent


@admin.register(CircuitEvent)
class CircuitEventAdmin(ReadOnlyAdmin):
    """The last ones first."""

    list_display = ("participant", "when", "actor", "reason")
    list_display_links = None
    sortable_by = ()
    list_filter = ("participant",)
    show_full_result_count = False
    paginator = BoundedPaginator

    @admin.display(description="when")
    def when(self, event: CircuitEvent) -> SafeString:
        """When it was closed."""
        return clock(event.at, engine.clock.now())

    class Media:
        css: ClassVar = {"all": ("sagas/admin.css",)}
