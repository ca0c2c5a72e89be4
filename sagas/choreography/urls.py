"""URLs of the choreography; a project includes them, and adds `starts` for what may be started."""

from __future__ import annotations

from collections.abc import Mapping

from django.urls import URLPattern

from sagas.api.shortcuts import either
from sagas.choreography import api

urlpatterns: list[URLPattern] = [
    *either("api/event-store/streams/<str:stream>/events", api.EventsView, "events"),
    *either("api/event-store/replay/<str:kind>/<uuid:stream>", api.ReplayView, "replay"),
    *either(
        "api/event-store/cqrs/orders-by-client/<int:client_id>", api.OrdersByClientView, "orders-by-client"
    ),
    *either(
        "api/event-store/cqrs/revenue-by-store-day/<int:store_id>", api.RevenueView, "revenue-by-store-day"
    ),
]


def starts(paths: Mapping[str, tuple[str, ...]]) -> list[URLPattern]:
    """Routes that begin streams: path to topic and the fields of its input that the path holds."""
    return [
        route
        for path, (topic, *fields) in paths.items()
        for route in either(path, api.starting(topic, *fields), f"start-{topic}")
    ]
