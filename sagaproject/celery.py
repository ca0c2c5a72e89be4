"""The Celery application; `celery -A sagaproject worker` finds it here."""

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging
from celery.utils.log import get_multiprocessing_logger

from sagas.celery import sagas_use

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sagaproject.settings")


@setup_logging.connect
def logs_as_everywhere(**_: Any) -> None:
    """Logs are what Django's settings made them; Celery would raise the level and add a form of its own."""
    of_pool = get_multiprocessing_logger()
    if of_pool is not None:
        of_pool.propagate = True


app = Celery("sagaproject")
app.config_from_object("django.conf:settings", namespace="CELERY")
sagas_use(app)
app.autodiscover_tasks()
