"""WSGI entry point of the participant processes."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sagaproject.participant_settings")

application = get_wsgi_application()
