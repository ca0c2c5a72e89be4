"""The page, the login, and the switch for faults. All else the page asks of the public API."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from uuid import UUID

from django.apps import apps
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.templatetags.static import static
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_http_methods, require_safe
from pydantic import ValidationError

from front import misbehaviour
from sagas.api import access
from sagas.errors import SagaNotFound

# The page runs what comes from here, and talks to nobody else.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
LOGIN = "front:login"
NO_SAGA = UUID(int=0)


def guarded(response: HttpResponseBase) -> HttpResponseBase:
    """With the page's policy."""
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Referrer-Policy"] = "same-origin"
    return response


class Login(LoginView):
    """Django's login in the look of the page; who is in already goes on."""

    template_name = "front/login.html"
    next_page = "front:index"
    redirect_authenticated_user = True

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """With the page's policy."""
        return guarded(super().dispatch(request, *args, **kwargs))


@require_safe
@never_cache
@ensure_csrf_cookie
@login_required(login_url=LOGIN)
def index(request: HttpRequest) -> HttpResponseBase:
    """The page; what this user may do, and what is installed, is told to its script."""
    may: Callable[[str], bool] = request.user.has_perm
    sees_admin = request.user.is_staff and may("sagas.view_saga")
    told = {
        "start": may("sagas.start_saga"),
        "compensate": may("sagas.compensate_saga"),
        "retry": may("sagas.retry_saga"),
        "admin": reverse("admin:sagas_saga_change", args=[NO_SAGA]) if sees_admin else "",
        "faults": reverse("front:faults") if settings.PARTICIPANTS["FAULTS"] else "",
        "kinds": misbehaviour.KINDS,
        "choreography": misbehaviour.CHOREOGRAPHED if apps.is_installed("sagas.choreography") else {},
    }
    return guarded(render(request, "front/index.html", {"told": told, "sees_admin": sees_admin}))


@require_safe
def icon(request: HttpRequest) -> HttpResponse:
    """Where browsers look for the icon of pages that name none, such as the admin's."""
    return redirect(static("front/icon.svg"), permanent=True)


@require_http_methods(["GET", "POST", "DELETE"])
@never_cache
def faults(request: HttpRequest) -> HttpResponse:
    """Faults of the participants: list those that are on, switch on some for one saga, clear them all.

    A saga's own faults hit that saga alone; who may not see it cannot make it fail. A choreography's are
    switched on before it begins, by the request that will begin it; hence they are its own user's.
    """
    if not settings.PARTICIPANTS["FAULTS"]:
        return told(HTTPStatus.NOT_FOUND, "Faults are not enabled here.")
    if not access.may(request.user, access.START):
        return told(HTTPStatus.FORBIDDEN, "This needs the permission to start sagas.")
    try:
        if request.method == "GET":
            return JsonResponse({"results": misbehaviour.listed()})
        if request.method == "DELETE":
            return JsonResponse({"removed": misbehaviour.cleared()})
        wanted = misbehaviour.Wanted.model_validate_json(request.body)
        if wanted.saga_id is not None:
            access.require_visible(request.user, wanted.saga_id)
        misbehaviour.switch_on(wanted, request.user.pk)
        return JsonResponse({}, status=HTTPStatus.CREATED)
    except ValidationError as error:
        return told(HTTPStatus.BAD_REQUEST, str(error.errors()[0]["msg"]))
    except SagaNotFound as error:
        return told(HTTPStatus.NOT_FOUND, str(error))
    except misbehaviour.NotSwitched as error:
        return told(HTTPStatus.BAD_GATEWAY, str(error))


def told(status: int, detail: str) -> JsonResponse:
    """What is wrong, as the page's script reads it from the API too."""
    return JsonResponse({"detail": detail}, status=status)
