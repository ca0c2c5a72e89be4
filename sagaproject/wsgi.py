"""WSGI entry point of the API and the admin."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sagaproject.settings")
os.environ.setdefault("SAGA_WEB_PROCESS", "1")

application = get_wsgi_application()

from sagas.api.progress import end_with_the_server  # noqa: E402  Django must be set up first

end_with_the_server()
