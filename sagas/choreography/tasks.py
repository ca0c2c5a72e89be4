"""Beat's part: days ahead, though no relay may run."""

from __future__ import annotations

from celery import shared_task

from sagas.choreography import partitions
from sagas.choreography.conf import conf


@shared_task(name="sagas.scan.partitions", ignore_result=True)
def secure() -> int:
    """Beat: make the partitions of the days ahead."""
    return partitions.secure(conf().ahead)
