"""Types of sagas: which are paused, pausing and resuming one, and who did so before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import structlog
from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString

from sagas import engine
from sagas.admin.looks import clock
from sagas.admin.readonly import ReadOnlyAdmin
from sagas.definition import registry
from sagas.models import Saga, TypeEvent, TypePause

log = structlog.get_logger(__name__)

LAST = 50


@dataclass(frozen=True, slots=True)
class Verb:
    """What can be done to a type."""

    name: str
    label: str
    help: str
    done: str
    idle: str


VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            "pause",
            "Pause",
            "No step of these sagas is begun any more, within a second or two, on any worker. "
            "What is under way is recorded; new sagas are accepted and wait.",
            "is paused",
            "was paused before; nothing was changed",
        ),
        Verb(
            "resume",
            "Resume",
            "Its sagas go on with the next recovery scan; their deadlines are moved on by the pause.",
            "goes on with the next recovery scan",
            "was not paused; nothing was changed",
        ),
    )
}


class ReasonForm(forms.Form):
    """Why."""

    reason = forms.CharField(
        max_length=500,
        error_messages={"required": "Say why; the reason is kept."},
        widget=forms.Textarea(attrs={"rows": 2, "cols": 80, "autofocus": True}),
    )


@dataclass(frozen=True, slots=True)
class Row:
    """One type: its versions here, its sagas on their way, and its pause if there is one."""

    type: str
    versions: str
    active: int
    pause: TypePause | None
    since: SafeString | str


def rows() -> list[Row]:
    """Every installed type, and those that are paused though no code for them is here."""
    now = engine.clock.now()
    pauses = {pause.type: pause for pause in TypePause.objects.all()}
    counted = Saga.objects.active().order_by().values_list("type").annotate(Count("pk"))
    active = dict(counted)
    versions: dict[str, list[str]] = {name: [] for name in pauses}
    for saga_type, version in sorted(registry.by_key):
        versions.setdefault(saga_type, []).append(str(version))
    return [
        Row(
            name,
            ", ".join(versions[name]) or "none here",
            active.get(name, 0),
            pauses.get(name),
            clock(pauses[name].at, now) if name in pauses else "",
        )
        for name in sorted(versions)
    ]


def may_steer(request: HttpRequest) -> bool:
    """Whether this user may pause and resume."""
    return request.user.has_perm("sagas.steer_saga")


@admin.register(TypePause)
class TypePauseAdmin(ReadOnlyAdmin):
    """All types on one page; each can be paused or resumed, with the reason."""

    def get_urls(self) -> list[URLPattern]:
        """The admin's own, and the confirmation pages."""
        view = self.admin_site.admin_view(self.steer_view)
        return [
            path("<slug:saga_type>/<slug:name>/", view, name="sagas_typepause_steer"),
            *super().get_urls(),
        ]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever may look at sagas, or at pauses."""
        return request.user.has_perm("sagas.view_saga") or super().has_view_permission(request, obj)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list, and below it who paused and resumed what."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        now = engine.clock.now()
        events = [(event, clock(event.at, now)) for event in TypeEvent.objects.all()[:LAST]]
        context = {
            **self.admin_site.each_context(request),
            "title": "Types of sagas",
            "opts": self.opts,
            "rows": rows(),
            "events": events,
            "last": LAST,
            "may_steer": may_steer(request),
        }
        return TemplateResponse(request, "admin/sagas/typepause/list.html", context)

    def steer_view(self, request: HttpRequest, saga_type: str, name: str) -> HttpResponse:
        """Ask for the reason, then do it."""
        verb = VERBS.get(name)
        row = next((row for row in rows() if row.type == saga_type), None)
        if verb is None or row is None:
            raise Http404
        if not (self.has_view_permission(request) and may_steer(request)):
            raise PermissionDenied
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            self._do(request, verb, saga_type, form.cleaned_data["reason"])
            return HttpResponseRedirect(reverse("admin:sagas_typepause_changelist"))
        context = {
            **self.admin_site.each_context(request),
            "title": f"{verb.label} {saga_type}",
            "opts": self.opts,
            "verb": verb,
            "row": row,
            "form": form,
        }
        return TemplateResponse(request, "admin/sagas/typepause/confirm.html", context)

    def _do(self, request: HttpRequest, verb: Verb, saga_type: str, reason: str) -> None:
        actor = request.user.get_username()
        steer = engine.pause_type if verb.name == "pause" else engine.resume_type
        if steer(saga_type, actor=actor, reason=reason):
            log.warning(
                "type paused" if verb.name == "pause" else "type resumed", type=saga_type, actor=actor
            )
            messages.success(request, f"{verb.label}: {saga_type} {verb.done}.")
        else:
            messages.info(request, f"{verb.label}: {saga_type} {verb.idle}.")
