"""Wiring of this project: settings, Celery, URLs, WSGI. No app imports it."""

from sagaproject.celery import app as celery_app

__all__ = ["celery_app"]
