"""The Celery application; `celery -A sagaproject worker` finds it here."""

import os

from celery import Celery

from sagas.celery import sagas_use

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sagaproject.settings")

app = Celery("sagaproject")
app.config_from_object("django.conf:settings", namespace="CELERY")
sagas_use(app)
app.autodiscover_tasks()
