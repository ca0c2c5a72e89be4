"""Semantic locks: who holds one, and who stands in line."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from sagas import engine
from sagas.admin.looks import badge, clock
from sagas.admin.paging import BoundedPaginator
from sagas.admin.readonly import ReadOnlyAdmin
from sagas.models import SagaLock


@admin.register(SagaLock)
class SagaLockAdmin(ReadOnlyAdmin):
    """Who holds a lock, and who stands in line for it."""

    list_display = ("key", "standing", "of_saga", "for_long")
    list_display_links = None
    sortable_by = ()
    search_fields = ("key__startswith",)
    search_help_text = "Beginning of the key"
    show_full_result_count = False
    paginator = BoundedPaginator

    @admin.display(description="place")
    def standing(self, lock: SagaLock) -> SafeString:
        """Holder, or in line."""
        return badge("in_progress", "holds it") if lock.held else badge("waiting", "in line")

    @admin.display(description="saga")
    def of_saga(self, lock: SagaLock) -> SafeString:
        """A link to the saga."""
        url = reverse("admin:sagas_saga_change", args=[lock.saga_id])
        return format_html('<a href="{}"><code>{}</code></a>', url, lock.saga_id)

    @admin.display(description="since")
    def for_long(self, lock: SagaLock) -> SafeString:
        """When it came."""
        return clock(lock.since, engine.clock.now())

    class Media:
        css: ClassVar = {"all": ("sagas/admin.css",)}
