"""WSGI entry point of the API and the admin."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sagaproject.settings")
os.environ.setdefault("SAGA_WEB_PROCESS", "1")

application = get_wsgi_application()
