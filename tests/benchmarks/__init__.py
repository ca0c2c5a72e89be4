"""The engine beside a bare Celery chain, measured in one run: `make bench`."""
