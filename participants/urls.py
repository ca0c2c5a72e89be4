"""URLs of a participant process.

Each served participant lies at `/<name>/saga/...`; since the names of operations are unique they
are served at the root, `/saga/...`, as well.
"""

from http import HTTPStatus

from django.http import HttpRequest, HttpResponseBase
from django.urls import path

from participants.contract import backoffice, desk, openapi, views
from participants.contract.outcomes import Answer, encode, error
from participants.contract.registry import by_operation, offers_of, served
from participants.contract.service import Service


def chosen(participant: str) -> list[Service]:
    """The services a path speaks of: the named one, or all for a path at the root."""
    return [service for service in served() if participant in ("", service.name)]


def operation(request: HttpRequest, name: str, participant: str = "", argument: str = "") -> HttpResponseBase:
    """`/saga/<operation>[/<argument>]`."""
    service = next(iter(chosen(participant)), None) if participant else by_operation().get(name)
    if service is None:
        return views.rendered(views.NO_SUCH_OPERATION)
    return views.serve_operation(request, service, name, argument)


def status(request: HttpRequest, key: str, participant: str = "") -> HttpResponseBase:
    """`/saga/operations/<key>`."""
    return views.serve_status(request, chosen(participant), key)


def offer(request: HttpRequest, participant: str, path: str) -> HttpResponseBase:
    """`/<participant>/api/<path>`."""
    if not chosen(participant):
        return views.rendered(desk.NOTHING_HERE)
    return desk.serve_offer(request, offers_of(participant), path)


def documentation(request: HttpRequest, participant: str = "") -> HttpResponseBase:
    """`/openapi.json`."""
    if not chosen(participant):
        return views.rendered(desk.NOTHING_HERE)
    document = openapi.document(chosen(participant), beside=offers_of, alone=bool(participant))
    return views.rendered(Answer(HTTPStatus.OK, encode(document)))


def faults(request: HttpRequest, participant: str = "") -> HttpResponseBase:
    """`/faults`."""
    return views.serve_faults(request, chosen(participant))


def health(request: HttpRequest, participant: str = "") -> HttpResponseBase:
    """`/health`."""
    return views.serve_health(request, chosen(participant))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """JSON for paths that nothing is served at."""
    return views.rendered(error(HTTPStatus.NOT_FOUND, "not_found", "Nothing is served here."))


def failed(request: HttpRequest) -> HttpResponseBase:
    """JSON for what no view caught."""
    return views.rendered(views.FAILED)


handler404 = not_found
handler500 = failed

urlpatterns = [
    path("admin/", backoffice.site.urls),
    path("<str:participant>/api/<path:path>", offer),
    *(
        path(f"{prefix}{pattern}", view)
        for prefix in ("", "<str:participant>/")
        for pattern, view in (
            ("saga/operations/<path:key>", status),
            ("saga/<str:name>", operation),
            ("saga/<str:name>/<str:argument>", operation),
            ("faults", faults),
            ("health", health),
            ("openapi.json", documentation),
        )
    ),
]
