"""How values look: badges, times, durations, JSON. Everything is escaped; colour never stands alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from sagas.state import Status, StepStatus

NOTHING = "–"  # noqa: RUF001  a dash, as Django's admin shows what is empty
JSON_LIMIT = 20_000

# The stylesheet has a pair of colours for each tone, in light and in dark.
TONES: Mapping[str, str] = {
    Status.PENDING: "quiet",
    Status.IN_PROGRESS: "moving",
    Status.WAITING: "waiting",
    Status.COMPLETED: "good",
    Status.COMPENSATING: "turning",
    Status.COMPENSATED: "undone",
    Status.FAILED: "bad",
    Status.PARKED: "alarm",
    Status.COMPENSATION_FAILED: "alarm",
    StepStatus.SKIPPED: "quiet",
}


def badge(status: str, text: str = "") -> SafeString:
    """A status as a coloured word."""
    tone = TONES.get(status, "quiet")
    return format_html('<span class="saga-badge saga-{}">{}</span>', tone, text or words(status))


def words(name: str) -> str:
    """`compensation_failed` as words."""
    return name.replace("_", " ")


def short(saga_id: UUID) -> str:
    """The part of an id that tells sagas apart at a glance; the search finds it."""
    return str(saga_id)[:18]


def human(span: timedelta) -> str:
    """A duration in at most two units."""
    seconds = max(span.total_seconds(), 0.0)
    if seconds < 0.9995:
        milliseconds = seconds * 1000
        return f"{milliseconds:.1f} ms" if 0 < milliseconds < 9.95 else f"{milliseconds:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    seconds = round(seconds)
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            rest = seconds % size // smaller
            return f"{seconds // size} {unit}" + (f" {rest} {name}" if rest else "")
    raise AssertionError("a minute is the smallest of the sizes")


def away(moment: datetime, now: datetime) -> str:
    """How long ago, or in how long."""
    return f"in {human(moment - now)}" if moment > now else f"{human(now - moment)} ago"


def clock(moment: datetime | None, now: datetime) -> SafeString:
    """A time of today by the clock, another with its date; the tooltip has all of it."""
    if moment is None:
        return mark_safe(NOTHING)  # noqa: S308  a constant
    local = timezone.localtime(moment)
    form = "%H:%M:%S" if local.date() == timezone.localtime(now).date() else "%d %b %Y, %H:%M"
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        moment.isoformat(),
        f"{local:%Y-%m-%d %H:%M:%S.%f}"[:-3] + f" {local:%Z}",
        f"{local:{form}}",
    )


def pretty(value: Any) -> str:
    """JSON over several lines, cut where nobody reads on."""
    if isinstance(value, str):
        value = _parsed(value)
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    if len(text) <= JSON_LIMIT:
        return text
    return f"{text[:JSON_LIMIT]}\n… cut, {len(text) - JSON_LIMIT} more characters"


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def inline(value: Any, limit: int = 120) -> str:
    """JSON in one line, cut."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
