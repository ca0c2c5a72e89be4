"""Settings of the participant processes: only the participants and their admin, few connections."""

from copy import deepcopy
from typing import Any

from participants.contract import logs
from sagaproject import settings as project
from sagaproject.settings import *  # noqa: F403  settings build upon settings

# Django's debug mode keeps and times every query, which costs more than the queries themselves.
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "participants.urls"
WSGI_APPLICATION = "sagaproject.participant_wsgi.application"
# Callers are services with a credential: no session, no cookie, hence nothing to forge. Only the
# admin has more around it, which the checks of its settings do not see.
MIDDLEWARE = ["participants.contract.backoffice.middleware"]
SILENCED_SYSTEM_CHECKS = ["admin.E408", "admin.E409", "admin.E410"]
# A browser keeps one set of cookies for all ports of a host, and the orchestrator's admin has its own.
SESSION_COOKIE_NAME = "participants_session"
CSRF_COOKIE_NAME = "participants_csrf"
# Their admin is reached directly, unless it has a proxy that ends TLS of its own.
BEHIND_TLS = project.env.bool("PARTICIPANTS_BEHIND_TLS", False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_TLS else None
SESSION_COOKIE_SECURE = BEHIND_TLS
CSRF_COOKIE_SECURE = BEHIND_TLS
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "participants",
    *(f"participants.{name}" for name in project.PARTICIPANT_NAMES),
]
APPEND_SLASH = False
LOGGING_CONFIG = "logging.config.dictConfig"
LOGGING = logs.configuration(project.env.str("LOG_FORMAT", "console"), project.env.str("LOG_LEVEL", "INFO"))


def shared(config: dict[str, Any]) -> dict[str, Any]:
    """A process that serves shares a few connections to each database among its threads; else one is kept.

    With many threads and databases a connection for each of both would use up a server's. They are
    not checked before use: an operation that meets a dead one runs again on a new one, since
    nothing was done. A database that is away is not waited for long.
    """
    own = deepcopy(config)
    own["CONN_HEALTH_CHECKS"] = False
    if project.WEB_PROCESS:
        size = project.env.int("PARTICIPANTS_POOL_SIZE", 4)
        own["OPTIONS"]["pool"] |= {"max_size": size, "timeout": 2, "reconnect_timeout": 1}
    return own


DATABASES = {alias: shared(dict(config)) for alias, config in project.DATABASES.items()}
# Users and sessions of the admin; the orchestrator's database is none of the participants' business.
BACKOFFICE = project.env.str(
    "BACKOFFICE_DATABASE_URL", project.sibling_database(project.DATABASE_URL, "backoffice")
)
DATABASES["default"] = {**shared(project.database(BACKOFFICE)), "CONN_HEALTH_CHECKS": True}
