"""The shop's Celery app; the marked line is all that sagas need."""

import os

from celery import Celery

from sagas.celery import sagas_use

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
sagas_use(app)  # <- the line
app.autodiscover_tasks()
