"""WSGI entry point of the participant processes."""

import os

from django.core.wsgi import get_wsgi_application

from sagaproject.metered import metered

# Not a default: importing this package has already set the settings of the API.
os.environ["DJANGO_SETTINGS_MODULE"] = "sagaproject.participant_settings"
os.environ.setdefault("SAGA_WEB_PROCESS", "1")

application = metered(get_wsgi_application())
