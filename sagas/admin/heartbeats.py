"""Whether beat, the workers and the scans live: the age of what each last wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from celery import current_app
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from sagas import engine
from sagas.admin.looks import human, inline
from sagas.admin.readonly import ReadOnlyAdmin
from sagas.models import Heartbeat

PREFIX = "sagas.scan."
LATE_AFTER = 3
MEANING: Mapping[str, str] = {
    "recover": "Recovery scan: lets interrupted sagas go on",
    "expire": "Timeout scan: extends or turns overdue sagas",
    "webhooks": "Webhooks: tells users' servers which sagas have ended",
    "canary": "Canary: beat sends, a worker receives and writes",
}


@dataclass(frozen=True, slots=True)
class Pulse:
    """One periodic job: when it last did its work, and how often it should."""

    name: str
    at: datetime | None
    age: timedelta | None
    every: timedelta | None
    detail: Any

    @property
    def state(self) -> str:
        """`missing` if it never beat, `late` if it missed several beats, else `fresh`."""
        if self.age is None:
            return "missing"
        if self.every is not None and self.age > self.every * LATE_AFTER:
            return "late"
        return "fresh"

    @property
    def tone(self) -> str:
        """The tone of its badge."""
        return "good" if self.state == "fresh" else "alarm"

    @property
    def age_text(self) -> str:
        """Its age in words."""
        return "never" if self.age is None else f"{human(self.age)} ago"

    @property
    def every_text(self) -> str:
        """Its period in words."""
        return "" if self.every is None else human(self.every)

    @property
    def meaning(self) -> str:
        """What its beating shows."""
        return MEANING.get(self.name, "")

    @property
    def detail_text(self) -> str:
        """What it had to say."""
        return inline(self.detail) if self.detail else ""


def periods() -> dict[str, timedelta]:
    """The jobs that beat is told to run, by heartbeat, with their periods."""
    return {
        entry["task"].removeprefix(PREFIX): entry["schedule"].run_every
        for entry in current_app.conf.beat_schedule.values()
        if entry["task"].startswith(PREFIX) and hasattr(entry["schedule"], "run_every")
    }


def pulses(now: datetime) -> list[Pulse]:
    """Every job that beats or should, in one query."""
    beats = {beat.name: beat for beat in Heartbeat.objects.all()}
    expected = periods()
    found = []
    for name in sorted(expected.keys() | beats.keys()):
        beat = beats.get(name)
        at = beat.at if beat else None
        age = now - at if at else None
        found.append(Pulse(name, at, age, expected.get(name), beat.detail if beat else None))
    return found


@admin.register(Heartbeat)
class HeartbeatAdmin(ReadOnlyAdmin):
    """All heartbeats on one page; there is nothing to click on."""

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        now = engine.clock.now()
        context = {
            **self.admin_site.each_context(request),
            "title": "Heartbeats",
            "opts": self.opts,
            "pulses": pulses(now),
            "now": now,
        }
        return TemplateResponse(request, "admin/sagas/heartbeat/list.html", context)
