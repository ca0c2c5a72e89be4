"""A saga orchestrator for Django and Celery."""
