"""WSGI entry point of the participant processes."""

import logging
import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sagaproject.participant_settings")

application = get_wsgi_application()
# A refusal is an answer like any other; Django would warn of every 4xx.
logging.getLogger("django.request").setLevel(logging.ERROR)
