"""A shop that already runs Django and Celery."""

from shop.celery import app

__all__ = ["app"]
