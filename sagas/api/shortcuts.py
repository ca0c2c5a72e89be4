"""Thin routes to the same code: a start with the bare input of one type, and other names of endpoints."""

from __future__ import annotations

from collections.abc import Mapping

from django.urls import URLPattern, path
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from sagas.api import access, schema
from sagas.api.preferences import preference
from sagas.api.requests import StartBody, validated
from sagas.api.steering import steering
from sagas.api.views import ActiveSagasView, Endpoint, SagaView, start
from sagas.definition import registry

WAIT = 30


class StartOneTypeView(Endpoint):
    """Start a saga of one type; waits for its end unless told otherwise."""

    saga_type: str

    def post(self, request: Request) -> Response:
        """The body is the input, bare."""
        access.require(request.user, access.START)
        body = validated(StartBody, {"type": self.saga_type, "data": request.data})
        return start(request, body, "", preference(request.headers.get("Prefer", ""), WAIT))


def starting(saga_type: str) -> type[StartOneTypeView]:
    """The view that starts one installed type."""
    view = type(f"Start_{saga_type}", (StartOneTypeView,), {"saga_type": saga_type})
    described: type[StartOneTypeView] = extend_schema_view(
        post=schema.shortcut(registry.latest(saga_type), WAIT)
    )(view)
    return described


@extend_schema_view(get=extend_schema(operation_id="get_saga_status", tags=["shortcuts"]))
class StatusView(SagaView):
    """The same as the canonical endpoint, under its other name."""


@extend_schema_view(post=extend_schema(operation_id="compensate_saga_shortcut", tags=["shortcuts"]))
class CompensateShortcutView(steering("compensate")):  # type: ignore[misc]  # a base that is made
    """The same as the canonical endpoint, under its other name."""


@extend_schema_view(get=extend_schema(operation_id="list_active_sagas"))
class ActiveListView(ActiveSagasView):
    """Active sagas that the caller may see."""


@extend_schema_view(get=extend_schema(operation_id="list_all_active_sagas"))
class AdminActiveListView(ActiveSagasView):
    """Active sagas of everybody, for those who may see them all."""

    permissions = (access.SEE,)


def either(route: str, view: type[APIView], name: str) -> list[URLPattern]:
    """`route` as written, and the same with or without its last slash, which the schema leaves out."""
    other = route.removesuffix("/") if route.endswith("/") else f"{route}/"
    return [path(route, view.as_view(), name=name), path(other, view.as_view(schema=None))]


def routes(starts: Mapping[str, str]) -> list[URLPattern]:
    """The thin routes; `starts` names the path that starts each type. Types not installed are left out."""
    found = either("api/saga/list/", ActiveListView, "active-sagas")
    found += either("api/saga/<uuid:saga_id>/status/", StatusView, "saga-status")
    found += either("api/saga/<uuid:saga_id>/compensate/", CompensateShortcutView, "compensate-shortcut")
    found += either("api/admin/sagas/active", AdminActiveListView, "all-active-sagas")
    for route, saga_type in starts.items():
        if saga_type in registry.types():
            found += either(route, starting(saga_type), f"start-{saga_type}")
    return found
