"""Pages of sagas, newest first: three statements whatever the page holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from django.db.models import Prefetch

from sagas.api.answers import SagaPage, saga_answer
from sagas.api.requests import ListQuery
from sagas.models import Saga, SagaQuerySet, SagaStep
from sagas.state import Status

COUNT_EXACTLY_UP_TO = 10_000
ACTIVE = (Status.PENDING, Status.IN_PROGRESS, Status.WAITING, Status.COMPENSATING)


def page(sagas: SagaQuerySet, query: ListQuery, url: str) -> SagaPage:
    """One page of `sagas`, filtered; `url` is where the links go."""
    chosen = filtered(sagas, query)
    count = bounded_count(chosen)
    rows: Sequence[Saga] = list(window(chosen, query))
    more = len(rows) > query.limit
    rows = rows[: query.limit]
    last = rows[-1] if rows else None
    return SagaPage(
        count=count,
        next=link(url, query, query.offset + query.limit, last) if more else None,
        previous=link(url, query, max(query.offset - query.limit, 0), None) if query.offset else None,
        results=[saga_answer(saga, saga.steps.all()) for saga in rows],
    )


def filtered(sagas: SagaQuerySet, query: ListQuery) -> SagaQuerySet:
    """Those with the status and type asked for."""
    wanted: dict[str, Any] = {"status": query.status, "type": query.type}
    return sagas.filter(**{name: value for name, value in wanted.items() if value is not None})


def window(sagas: SagaQuerySet, query: ListQuery) -> SagaQuerySet:
    """The page's rows and one more, which tells whether there is a next page.

    Behind `before` no row is skipped one by one: ids are in order of creation.
    """
    steps = SagaStep.objects.defer("request", "undo_request").order_by("position")
    ordered = sagas.order_by("-id").prefetch_related(Prefetch("steps", queryset=steps))
    if query.before is not None:
        return ordered.filter(id__lt=query.before)[: query.limit + 1]
    return ordered[query.offset : query.offset + query.limit + 1]


def bounded_count(sagas: SagaQuerySet) -> int:
    """How many there are: counted up to 10 000, above that the planner's estimate."""
    counted: int = sagas.order_by()[: COUNT_EXACTLY_UP_TO + 1].count()
    if counted <= COUNT_EXACTLY_UP_TO:
        return counted
    plan = json.loads(sagas.order_by().explain(format="json"))
    return max(int(plan[0]["Plan"]["Plan Rows"]), counted)


def link(url: str, query: ListQuery, offset: int, last: Saga | None) -> str:
    """The address of another page with the same filters."""
    parameters = {
        "status": query.status,
        "type": query.type,
        "limit": query.limit,
        "offset": offset,
        "before": last.id if last is not None else None,
    }
    return f"{url}?{urlencode({name: value for name, value in parameters.items() if value is not None})}"
