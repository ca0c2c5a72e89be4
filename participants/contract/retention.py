"""How long idempotency keys are kept."""

from datetime import datetime

from django.conf import settings

from participants.contract.barrier import records

BATCH = 5_000


def prune(service: str, now: datetime) -> int:
    """Delete the keys older than the retention, batch by batch; tells how many.

    A call whose key is nearly as old is refused (`key_expired`), so no repeat can miss its record.
    """
    oldest = now - settings.PARTICIPANTS["RETENTION"]
    table = records(service)
    deleted = 0
    while True:
        batch = list(
            table.objects.filter(created_at__lt=oldest).order_by("id").values_list("pk", flat=True)[:BATCH]
        )
        if not batch:
            return deleted
        deleted += table.objects.filter(pk__in=batch).delete()[0]
