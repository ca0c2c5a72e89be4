"""The list of sagas and the page of one of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Prefetch, Q, QuerySet
from django.db.models.fields.json import KT
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.functional import SimpleLazyObject
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from sagas import engine
from sagas.admin import confirm, picture, timeline
from sagas.admin.audit import history
from sagas.admin.filters import AttentionFilter, StartedFilter, StatusFilter, TypeFilter
from sagas.admin.heartbeats import pulses
from sagas.admin.looks import away, badge, clock, human, pretty, short
from sagas.admin.paging import BoundedPaginator, id_range
from sagas.admin.readonly import ReadOnlyAdmin
from sagas.admin.verbs import OFFERS, Foresight, Offer, foresee
from sagas.graph import mermaid
from sagas.models import Saga, SagaStep
from sagas.state import ACTIVE, FINISHED, Entry, SagaState, Status

SOME = 200
CHILDREN = 50
ALWAYS = ("retry", "compensate")  # shown even when the saga's state forbids them, with the reason
FORWARD = frozenset({Status.PENDING, Status.IN_PROGRESS, Status.WAITING})
LIST_STEP = (
    "saga_id", "position", "name", "status", "attempts", "undo_attempts", "due_at", "lease_until",
)  # fmt: skip


@admin.register(Saga)
class SagaAdmin(ReadOnlyAdmin):
    """Look at sagas; the verbs of `verbs.py` are the only things that can be done to them."""

    list_display = ("short_id", "type", "state", "current_step", "started", "age", "error_code")
    list_display_links = ("short_id",)
    list_filter = (AttentionFilter, StatusFilter, TypeFilter, StartedFilter)
    search_fields = ("id",)
    search_help_text = "Saga id (whole or its beginning) or correlation id"
    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = BoundedPaginator
    sortable_by = ("started",)
    ordering = ("-id",)
    change_list_template = "admin/sagas/saga/list.html"

    # --- The list

    def get_queryset(self, request: HttpRequest) -> QuerySet[Saga]:
        """Rows without what the list does not show, and their steps in one more query."""
        steps = SagaStep.objects.only(*LIST_STEP).order_by("position")
        rows: QuerySet[Saga] = Saga.objects.defer("data", "result", "error")
        return rows.annotate(code=KT("error__code")).prefetch_related(Prefetch("steps", queryset=steps))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """By id, whole or its beginning, or by correlation id; each answered by its index."""
        term = search_term.strip()
        if not term or "\0" in term:
            return (queryset.none() if term else queryset), False
        correlated = Saga.objects.filter(correlation_id=term).values_list("pk", flat=True)
        wanted = Q(pk__in=list(correlated.order_by("-pk")[:SOME]))
        bounds = id_range(term)
        return queryset.filter(wanted | Q(pk__range=bounds) if bounds else wanted), False

    @admin.display(description="saga")
    def short_id(self, saga: Saga) -> SafeString:
        """The beginning of the id."""
        return format_html('<code title="{}">{}</code>', saga.id, short(saga.id))

    @admin.display(description="status")
    def state(self, saga: Saga) -> SafeString:
        """The status as a badge."""
        mark = badge(saga.status)
        return format_html("{} {}", mark, badge("waiting", "paused")) if saga.paused_at else mark

    @admin.display(description="current step", empty_value="")
    def current_step(self, saga: Saga) -> str:
        """Where it is, or failed."""
        return timeline.current(saga, list(saga.steps.all()))

    @admin.display(description="started", ordering="id")
    def started(self, saga: Saga) -> SafeString:
        """When it was accepted."""
        return clock(saga.created_at, engine.clock.now())

    @admin.display(description="duration")
    def age(self, saga: Saga) -> SafeString:
        """How long it took; how old it is, if it has not ended."""
        now = engine.clock.now()
        if saga.finished_at is not None:
            return format_html("{}", human(saga.finished_at - saga.created_at))
        late = saga.deadline_at is not None and saga.deadline_at <= now and saga.status in ACTIVE
        text = human(now - saga.created_at)
        if late:
            return format_html('<span class="saga-late">{}, past its deadline</span>', text)
        return format_html('<span class="saga-open" title="so far">{}</span>', text)

    @admin.display(description="error", empty_value="")
    def error_code(self, saga: Any) -> str:
        """The code of what went wrong."""
        return saga.code or ""

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list below a strip that tells whether all is well."""
        context = {"title": "Sagas", "health": SimpleLazyObject(health), **(extra_context or {})}
        return super().changelist_view(request, context)

    # --- One saga

    def get_urls(self) -> list[URLPattern]:
        """The admin's own, and the confirmation page of the verbs."""
        view = self.admin_site.admin_view(self.intervene_view)
        return [path("intervene/<slug:name>/", view, name="sagas_saga_intervene"), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The page of one saga."""
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        saga = self._saga(object_id)
        if saga is None:
            messages.warning(request, f"There is no saga {object_id}.")
            return HttpResponseRedirect(reverse("admin:sagas_saga_changelist"))
        return TemplateResponse(request, "admin/sagas/saga/detail.html", self._page(request, saga))

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """A saga's history is its audit."""
        return HttpResponseRedirect(reverse("admin:sagas_saga_change", args=[object_id]) + "#audit")

    def _saga(self, object_id: str) -> Saga | None:
        try:
            saga: Saga | None = Saga.objects.select_related("owner").filter(pk=UUID(object_id)).first()
        except ValueError:
            return None
        return saga

    def _page(self, request: HttpRequest, saga: Saga) -> dict[str, Any]:
        now = engine.clock.now()
        steps = list(SagaStep.objects.filter(saga=saga).order_by("position"))
        rows = timeline.rows(saga, steps, now)
        state, definition, error = engine.load(saga.id), timeline.declared(saga), saga.error or {}
        return {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"{saga.type} {saga.id}",
            "saga": saga,
            "badge": badge(saga.status),
            "facts": facts(saga, now),
            "rows": [with_badges(row) for row in rows],
            "error": error,
            "picture": picture.draw(definition, rows, saga.status, str(error.get("step", ""))),
            "mermaid": mermaid(definition, state) if definition is not None else "",
            "left": timeline.left_to_undo(rows) if saga.status == Status.COMPENSATION_FAILED else [],
            "input": pretty(saga.data),
            "result": pretty(saga.result) if saga.result is not None else "",
            "active": saga.status not in FINISHED,
            "forward": saga.status in FORWARD,
            "offers": self._offered(request, state, now),
            "history": history(saga, request.GET.get("before"), now),
        }

    def _offered(self, request: HttpRequest, state: SagaState, now: datetime) -> dict[str, Any]:
        """What this user may do, each with the reason if it does not fit the saga's state."""
        permitted = [offer for offer in OFFERS.values() if offer.permitted(request)]
        if not permitted:
            return {}
        actor = request.user.get_username()
        pairs = [(o, foresee(o, state, actor, now, first=True)) for o in permitted]
        return {
            "buttons": [(o, f) for o, f in pairs if o.name in ALWAYS or (o.prominent and f.allowed)],
            "more": [(o, f) for o, f in pairs if f.allowed and not o.prominent],
        }

    # --- Interventions

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """What this user may do to a selection; nothing else, so no deleting."""
        return {
            offer.name: (_action(offer), offer.name, f"{offer.label} selected sagas")
            for offer in OFFERS.values()
            if offer.bulk and offer.permitted(request)
        }

    def intervene_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """Ask for the reason, then do it."""
        offer = OFFERS.get(name)
        if offer is None:
            raise Http404
        if not (self.has_view_permission(request) and offer.permitted(request)):
            raise PermissionDenied
        given = request.POST if request.method == "POST" else request.GET
        try:
            ids = confirm.parse_ids(given.getlist("saga"))
        except ValueError as error:
            messages.error(request, str(error))
            ids = []
        if not ids or (len(ids) > 1 and not offer.bulk):
            return HttpResponseRedirect(reverse("admin:sagas_saga_changelist"))
        if request.method != "POST":
            return self.ask(request, offer, ids)
        return self._do(request, offer, ids)

    def _do(self, request: HttpRequest, offer: Offer, ids: list[UUID]) -> HttpResponse:
        actor = request.user.get_username()
        foreseen = confirm.foresee_all(offer, ids, actor) if offer.choice else []
        form = confirm.ReasonForm(offer, foreseen, request.POST)
        if not form.is_valid():
            return self.ask(request, offer, ids, form)
        reason, request_id = form.cleaned_data["reason"], str(form.cleaned_data["request_id"])
        who = Entry(offer.name, actor=actor, reason=reason, request_id=request_id)
        tell(request, offer, confirm.carry_out(offer, ids, form.wish(), who))
        return HttpResponseRedirect(self._back(ids))

    def ask(
        self, request: HttpRequest, offer: Offer, ids: list[UUID], form: confirm.ReasonForm | None = None
    ) -> HttpResponse:
        """The confirmation page."""
        foreseen = confirm.foresee_all(offer, ids, request.user.get_username())
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"{offer.label}: {_named(foreseen)}",
            "offer": offer,
            "form": form or confirm.ReasonForm(offer, foreseen),
            "foreseen": [_shown(foresight) for foresight in foreseen],
            "possible": sum(f.allowed for f in foreseen),
            "back": self._back(ids),
        }
        return TemplateResponse(request, "admin/sagas/saga/confirm.html", context)

    def _back(self, ids: list[UUID]) -> str:
        if len(ids) == 1:
            return reverse("admin:sagas_saga_change", args=[ids[0]])
        return reverse("admin:sagas_saga_changelist")


Action = Callable[[SagaAdmin, HttpRequest, "QuerySet[Saga]"], "HttpResponse | None"]


def _action(offer: Offer) -> Action:
    def act(model_admin: SagaAdmin, request: HttpRequest, chosen: QuerySet[Saga]) -> HttpResponse | None:
        keys = chosen.order_by("-pk").prefetch_related(None)
        ids = list(keys.values_list("pk", flat=True)[: confirm.AT_ONCE + 1])
        if len(ids) > confirm.AT_ONCE:
            messages.error(request, f"Choose at most {confirm.AT_ONCE} sagas at a time.")
            return None
        return model_admin.ask(request, offer, ids)

    return act


def _named(foreseen: list[Foresight]) -> str:
    return (
        " ".join([foreseen[0].type, short(foreseen[0].saga_id)])
        if len(foreseen) == 1
        else f"{len(foreseen)} sagas"
    )


def _shown(foresight: Foresight) -> dict[str, Any]:
    """A foresight beside its badges."""
    outlooks = [
        {"choice": o.choice, "lines": o.lines, "badge": badge(o.after) if o.after != foresight.before else ""}
        for o in foresight.outlooks
    ]
    return {"saga": foresight, "before": badge(foresight.before), "outlooks": outlooks}


def tell(request: HttpRequest, offer: Offer, report: confirm.Report) -> None:
    """Say what became of each saga."""
    for line in report.done:
        messages.success(request, f"{offer.label}: {line}.")
    for line in report.nothing:
        messages.info(request, f"{offer.label}, nothing to do: {line}.")
    for line in report.refused:
        messages.error(request, f"{offer.label} refused for {line}.")
    if report.unrung:
        messages.warning(
            request, f"The broker is slow: {report.unrung} sagas go on with the next recovery scan."
        )


def health() -> dict[str, Any]:
    """Counts of what needs attention, each bounded, and the heartbeats."""
    now = engine.clock.now()
    counts = {
        "person": Saga.objects.needing_a_person(),
        "stuck": Saga.objects.stuck(now),
        "active": Saga.objects.active(),
    }
    bounded = {name: rows.order_by()[: SOME + 1].count() for name, rows in counts.items()}
    paused = sorted(engine.paused_types())
    return {"counts": bounded, "most": SOME, "paused": paused, "pulses": pulses(now)}


def with_badges(row: timeline.Row) -> dict[str, Any]:
    """A row with its compensation, each beside its badge."""
    undo = row.compensation
    return {
        "row": row,
        "badge": badge(row.status, row.label),
        "undo": undo,
        "undo_badge": badge(undo.status, undo.label) if undo else "",
    }


def facts(saga: Saga, now: datetime) -> list[tuple[str, Any]]:
    """The header's facts, in order; those without a value are left out."""
    took = human((saga.finished_at or now) - saga.created_at)
    deadline = saga.deadline_at
    rows: list[tuple[str, Any]] = [
        ("Started", clock(saga.created_at, now)),
        ("Finished", clock(saga.finished_at, now) if saga.finished_at else None),
        ("Duration" if saga.finished_at else "Age", took),
        ("Paused", away(saga.paused_at, now) if saga.paused_at else None),
        ("Deadline", _deadline(saga, deadline, now) if deadline and saga.status in FORWARD else None),
        ("Extended", f"{saga.extensions} times" if saga.extensions else None),
        ("Definition", f"version {saga.version}, epoch {saga.epoch}"),
        ("Owner", saga.owner and saga.owner.get_username()),
        ("Part of", _link(saga.parent_id) if saga.parent_id else None),
        ("Children", _children(saga)),
        ("Lock", format_html("<code>{}</code>", saga.lock_key) if saga.lock_key else None),
        ("Signals unread", ", ".join(str(mail.get("name")) for mail in saga.mailbox)),
        ("Saga id", format_html("<code>{}</code>", saga.id)),
        ("Correlation id", _correlation(saga)),
        (
            "Idempotency key",
            format_html("<code>{}</code>", saga.idempotency_key) if saga.idempotency_key else None,
        ),
    ]
    return [(name, value) for name, value in rows if value]


def _link(saga_id: UUID) -> SafeString:
    url = reverse("admin:sagas_saga_change", args=[saga_id])
    return format_html('<a href="{}"><code>{}</code></a>', url, saga_id)


def _children(saga: Saga) -> SafeString:
    found = Saga.objects.filter(parent=saga).order_by("id").only("id", "type", "status")[:CHILDREN]
    return format_html_join(", ", "{} {}", ((_link(child.pk), badge(child.status)) for child in found))


def _correlation(saga: Saga) -> str | SafeString:
    if saga.correlation_id == str(saga.id):
        return "the saga id"
    return format_html("<code>{}</code>", saga.correlation_id)


def _deadline(saga: Saga, deadline: datetime, now: datetime) -> SafeString:
    passed = deadline <= now and saga.status in ACTIVE
    return format_html(
        '{}, <span class="{}">{}</span>',
        clock(deadline, now),
        "saga-late" if passed else "",
        away(deadline, now),
    )
