"""The admin of a participant process, at `/admin/`, where people see to what participants own.

Its users, sessions and log live in a small database of their own (the alias `default` of a
participant process), so that it shares nothing with the orchestrator.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from django.contrib import admin
from django.core.handlers.exception import convert_exception_to_response
from django.db.models import Model
from django.http import HttpRequest, HttpResponseBase
from django.utils.module_loading import import_string

from participants.contract.configuration import served_names

if TYPE_CHECKING:  # generic for the type checker only
    Base = admin.ModelAdmin[Any]
    Lines = admin.TabularInline[Any, Any]
else:
    Base = admin.ModelAdmin
    Lines = admin.TabularInline

Handler = Callable[[HttpRequest], HttpResponseBase]
A = TypeVar("A", bound=type[Base])
PATHS = ("/admin/", "/static/")
MIDDLEWARE = (
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
)

site = admin.AdminSite(name="backoffice")
site.site_header = site.site_title = "Participants"
site.index_title = "What participants own"
site.site_url = None


def middleware(get_response: Handler) -> Handler:
    """What the admin needs around it, and services do not: for the admin's paths only.

    CSRF is checked by the admin's own views.
    """
    wrapped = get_response
    for path in reversed(MIDDLEWARE):
        wrapped = cast(Handler, convert_exception_to_response(import_string(path)(wrapped)))

    def chosen(request: HttpRequest) -> HttpResponseBase:
        return (wrapped if request.path_info.startswith(PATHS) else get_response)(request)

    return chosen


def register(*models: type[Model]) -> Callable[[A], A]:
    """Show models in the admin of the processes that serve their participant."""

    def decorate(shown: A) -> A:
        for model in models:
            if model._meta.app_label in served_names():
                site.register(model, shown)
        return shown

    return decorate


class Kept(Base):
    """Rows that people add and change, and never delete, because others know their ids."""

    show_full_result_count = False
    list_per_page = 50

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never."""
        return False


class Seen(Kept):
    """Rows that only operations write, since each change has to be accounted for."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Never."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never."""
        return False


class SeenLines(Lines):
    """Rows below another that only operations write."""

    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never."""
        return False
