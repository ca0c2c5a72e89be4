"""What is measured: the same four calls as sagas and as bare Celery tasks."""
