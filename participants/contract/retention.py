"""How long idempotency keys are kept."""

from datetime import datetime

from participants.contract.barrier import records
from participants.contract.configuration import retention

BATCH = 5_000


def prune(service: str, now: datetime) -> int:
    """Delete the keys older than the retention, batch by batch; tells how many.

    A call whose key is nearly as old is refused (`key_expired`), so no repeat can miss its record.
    """
    oldest = now - retention()
    table = records(service)
    deleted = 0
    while True:
        batch = list(table.filter(created_at__lt=oldest).order_by("id").values_list("pk", flat=True)[:BATCH])
        if not batch:
            return deleted
        deleted += table.filter(pk__in=batch).delete()[0]
