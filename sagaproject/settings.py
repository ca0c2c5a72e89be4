"""Settings of the API, the workers, beat and manage.py; every value can come from the environment.

`config/env.example` lists the variables. Participant processes use `participant_settings`.
"""

from datetime import timedelta
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit, urlunsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured
from environs import Env
from redis.backoff import NoBackoff
from redis.retry import Retry

BASE_DIR = Path(__file__).resolve().parent.parent
env = Env()

DEBUG = env.bool("DJANGO_DEBUG", True)
SECRET_KEY = env.str("DJANGO_SECRET_KEY", "development-only-key-not-for-production" if DEBUG else "")
if not SECRET_KEY:
    raise ImproperlyConfigured("Set DJANGO_SECRET_KEY: DJANGO_DEBUG is off and there is no default then.")
ALLOWED_HOSTS = env.list("DJANGO_ALLOWED_HOSTS", ["*"] if DEBUG else [])
# Demo users have well-known passwords: in production they are made only where that is asked for.
SEED_DEMO_USERS = DEBUG or env.bool("SEED_DEMO_USERS", False)
CSRF_TRUSTED_ORIGINS: list[str] = env.list("DJANGO_CSRF_TRUSTED_ORIGINS", [])
# For a proxy that ends TLS and always sets X-Forwarded-Proto itself, so that no caller can claim it.
# Strict-Transport-Security and the way from http to https are left to that proxy.
BEHIND_TLS = env.bool("DJANGO_BEHIND_TLS", False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_TLS else None
SESSION_COOKIE_SECURE = BEHIND_TLS
CSRF_COOKIE_SECURE = BEHIND_TLS

PARTICIPANT_NAMES: tuple[str, ...] = tuple(
    path.parent.name for path in sorted((BASE_DIR / "participants").glob("*/apps.py"))
)

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_prometheus",
    "rest_framework",
    "rest_framework.authtoken",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "sagas",
    "sagas.choreography",
    "sagas.retail",
    "front",
    "participants",
    *(f"participants.{name}" for name in PARTICIPANT_NAMES),
]

MIDDLEWARE = [
    "sagas.api.monitoring.LivenessMiddleware",
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "sagas.logs.CorrelationMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

ROOT_URLCONF = "sagaproject.urls"
WSGI_APPLICATION = "sagaproject.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGIN_URL = "admin:login"

WEB_PROCESS = env.bool("SAGA_WEB_PROCESS", False)  # set by the WSGI modules

# --- Databases ------------------------------------------------------------------------------------
DATABASE_URL = env.str("DATABASE_URL", "postgresql://saga:saga@127.0.0.1:54329/sagas")


def sibling_database(url: str, suffix: str) -> str:
    """The URL of the database beside `url` on the same server whose name ends in `_suffix`."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path}_{suffix}"))


def database(url: str) -> dict[str, object]:
    """Django's settings of one connection, which binds its parameters on the server.

    Server-side binding lets psycopg prepare the engine's few statements: half the CPU of each.
    A worker child keeps one connection for its life; the web process, whose threads come and
    go, takes them from a pool (a pool and prefork do not mix).
    """
    config: dict[str, object] = dict(dj_database_url.parse(url, conn_max_age=None, conn_health_checks=True))
    options: dict[str, object] = {"server_side_binding": True, "prepare_threshold": 3, "connect_timeout": 5}
    # A server that has gone without a word is noticed within a minute, not after the system's two hours.
    options |= {
        "keepalives_idle": 20,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 50_000,
    }
    if WEB_PROCESS:
        config["CONN_MAX_AGE"] = 0
        options["pool"] = {"min_size": 1, "max_size": env.int("DATABASE_POOL_SIZE", 16), "timeout": 5}
    config["OPTIONS"] = {**cast(dict[str, object], config.get("OPTIONS", {})), **options}
    return config


DATABASES = {
    "default": database(DATABASE_URL),
    **{
        name: database(env.str(f"{name.upper()}_DATABASE_URL", sibling_database(DATABASE_URL, name)))
        for name in PARTICIPANT_NAMES
    },
}
DATABASE_ROUTERS = ["participants.routers.ParticipantRouter"]

# --- Redis: broker and cache; nothing in it is needed for correctness ------------------------------
REDIS_URL = env.str("REDIS_URL", "redis://127.0.0.1:63799/0")
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        # What is cached can be had otherwise: a Redis that is away is not waited for.
        "OPTIONS": {
            "serializer": "sagaproject.caching.JSONSerializer",
            "socket_connect_timeout": 0.25,
            "socket_timeout": 0.25,
            "retry": Retry(NoBackoff(), 0),
        },
    }
}

# --- Celery ---------------------------------------------------------------------------------------
# The visibility timeout is one value everywhere, above the hard limit plus the longest countdown
# plus the wait of a prefetched message: a shorter one would deliver healthy messages twice.
CELERY_BROKER_URL = REDIS_URL
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 900,
    "socket_connect_timeout": 2,
    "socket_timeout": 10,
    "socket_keepalive": True,
    "max_retries": 2,
    "interval_start": 0.1,
    "interval_step": 0.2,
    "interval_max": 0.4,
}
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_PUBLISH_RETRY = True
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2}
CELERY_TASK_SEND_SENT_EVENT = True
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_TIME_LIMIT = 120
CELERY_TASK_SOFT_TIME_LIMIT = 90
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 100
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# A step that is cut short is recorded by nobody; one that goes on is, and its message finds nothing to do.
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_TIMEZONE = "UTC"
CELERY_TASK_DEFAULT_QUEUE = "forward"
CELERY_BEAT_SCHEDULE_FILENAME = str(BASE_DIR / ".data" / "beat-schedule")

# --- The engine and its participants ---------------------------------------------------------------
PARTICIPANTS_PORT = env.int("PORT_PARTICIPANTS", 8001)
PARTICIPANT_CREDENTIAL = env.str("PARTICIPANT_CREDENTIAL", "dev-service-credential" if DEBUG else "")
SAGAS = {
    "PARTICIPANTS": {
        name: {
            "url": env.str(f"PARTICIPANT_{name.upper()}_URL", f"http://127.0.0.1:{PARTICIPANTS_PORT}/{name}"),
            "credential": env.str(f"PARTICIPANT_{name.upper()}_CREDENTIAL", PARTICIPANT_CREDENTIAL),
            "credential_file": env.str(f"PARTICIPANT_{name.upper()}_CREDENTIAL_FILE", ""),
        }
        for name in PARTICIPANT_NAMES
    },
    "RING_AFTER": timedelta(seconds=env.float("SAGA_RING_AFTER_SECONDS", 15)),
    "LEASE_MARGIN": timedelta(seconds=env.float("SAGA_LEASE_MARGIN_SECONDS", 10)),
    "RECOVERY_PERIOD": timedelta(seconds=env.float("SAGA_RECOVERY_SECONDS", 10)),
    "TIMEOUT_PERIOD": timedelta(seconds=env.float("SAGA_TIMEOUT_SCAN_SECONDS", 60)),
    "WEBHOOK_PERIOD": timedelta(seconds=env.float("SAGA_WEBHOOK_SECONDS", 5)),
    "WEBHOOKS_PRIVATE": env.bool("SAGA_WEBHOOKS_PRIVATE", False),
    "CALLBACK_URL": env.str("SAGA_CALLBACK_URL", ""),
    "WORKER_METRICS_PORT": env.int("PORT_WORKER_METRICS", 0),
    "WORKER_METRICS_ADDRESS": env.str("WORKER_METRICS_ADDRESS", "127.0.0.1"),
}
DEVELOPMENT_KEY = "development-only-key-of-personal-data-in-events"
CHOREOGRAPHY: dict[str, object] = {
    "KEYS": env.list("EVENT_KEYS", [DEVELOPMENT_KEY] if DEBUG else []),
    "REDIS_URL": REDIS_URL,
    "RETENTION": timedelta(days=env.int("EVENT_RETENTION_DAYS", 90)),
    "CALL_TIMEOUT": timedelta(seconds=env.float("EVENT_CALL_TIMEOUT_SECONDS", 5)),
    "CLAIM_AFTER": timedelta(seconds=env.float("EVENT_CLAIM_AFTER_SECONDS", 15)),
    "BACKOFF": timedelta(seconds=env.float("EVENT_BACKOFF_SECONDS", 1)),
}
if event_timeout := env.float("EVENT_TIMEOUT_SECONDS", 0):  # else each topic's own
    CHOREOGRAPHY["TIMEOUT"] = timedelta(seconds=event_timeout)
PARTICIPANTS = {
    "CREDENTIALS": env.list("PARTICIPANT_CREDENTIALS", [PARTICIPANT_CREDENTIAL]),
    "OWN_CREDENTIALS": {
        name: env.list(
            f"PARTICIPANT_{name.upper()}_CREDENTIALS", env.list(f"PARTICIPANT_{name.upper()}_CREDENTIAL", [])
        )
        for name in PARTICIPANT_NAMES
    },
    "CREDENTIAL_FILES": {
        name: env.str(
            f"PARTICIPANT_{name.upper()}_CREDENTIALS_FILE", env.str("PARTICIPANT_CREDENTIALS_FILE", "")
        )
        for name in PARTICIPANT_NAMES
    },
    "RETENTION": timedelta(days=env.int("PARTICIPANT_KEY_RETENTION_DAYS", 30)),
    "FAULTS": env.bool("PARTICIPANTS_FAULTS", False),
    "SERVED": env.list("PARTICIPANTS_SERVED", list(PARTICIPANT_NAMES)),
}

# --- API ------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "sagas.api.problems.handler",
}
# How many requests may wait for the end of their saga at once (`Prefer: wait`). Each holds a thread,
# so it must stay well below the server's `--threads`; who finds no place is answered 202 at once.
SAGA_API_WAITERS = env.int("SAGA_API_WAITERS", 48)
# How many front ends may follow sagas at once; each holds a thread as well.
SAGA_API_STREAMS = env.int("SAGA_API_STREAMS", 12)
SPECTACULAR_SETTINGS = {
    "OAS_VERSION": "3.1.0",
    "TITLE": "Saga orchestrator",
    "DESCRIPTION": "Start, follow and steer business transactions that span several services.",
    "VERSION": "1.0",
    "TAGS": [  # in the order in which one meets them
        {"name": "sagas", "description": "Start, follow, compensate, retry"},
        {"name": "shortcuts", "description": "The same with the bare input, and under other names"},
        {"name": "choreography", "description": "Checkouts and orders without a conductor; the event store"},
        {"name": "definitions", "description": "What can be started"},
        {"name": "webhooks", "description": "Be told of ends"},
        {"name": "outside", "description": "Signals, approvals, late answers"},
        {"name": "interventions", "description": "Steer one saga by hand"},
        {"name": "operating", "description": "Many sagas, circuits, pauses"},
    ],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000_000

# prometheus_client opens its files in this folder as soon as it is imported.
if METRICS_FOLDER := env.str("PROMETHEUS_MULTIPROC_DIR", ""):
    Path(METRICS_FOLDER).mkdir(parents=True, exist_ok=True)

LOGGING_CONFIG = "sagas.logs.from_settings"
LOGGING = {"format": env.str("LOG_FORMAT", "console"), "level": env.str("LOG_LEVEL", "INFO")}
