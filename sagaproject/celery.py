"""The Celery application; `celery -A sagaproject worker` finds it here."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sagaproject.settings")

app = Celery("sagaproject")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
