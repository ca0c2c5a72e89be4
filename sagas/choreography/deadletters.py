"""Events that a group could not handle: kept for a person, looked at, and sent on their way again."""

from __future__ import annotations

from typing import Any

from django.db import connection, transaction
from django.db.models.functions import Now

from sagas.choreography import metrics, projections, store
from sagas.choreography.bus import bell
from sagas.choreography.events import Event, cleaned
from sagas.choreography.models import DeadLetter
from sagas.choreography.store import Recorded
from sagas.choreography.topics import Facts, Group, registry
from sagas.errors import NotAllowed

# Behind the event, so that it is looked for if Redis loses it; and changed in any case, so that whoever has
# begun to move the checkpoint on without knowing of the redrive does not.
REWIND = """
UPDATE choreography_checkpoint SET at = least(at, %s) - interval '1 microsecond' WHERE consumer = %s
"""


def bury(
    group: Group, event: Event, facts: Facts, *, reason: str, deliveries: int, key: bytes | None
) -> Recorded:
    """Give an event up: its dead letter, and the facts of the group's resignation, in one transaction.

    To everybody else the event now counts as handled.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        projections.hold(cursor, group)
        done = store.record(group, event, facts, key)
        if done.fresh:
            DeadLetter.objects.create(
                consumer=group.name,
                topic=event.topic,
                event_id=event.id,
                event_at=event.time,
                position=event.position,
                stream=event.stream,
                type=event.type,
                deliveries=deliveries,
                reason=cleaned(reason)[:2000],
            )
    if done.fresh:
        metrics.DEAD.labels(event.topic, group.name).inc()
    return done


def redrive(letter_id: int, actor: str) -> bool:
    """Have the group handle the event after all; False if somebody did that already.

    The event goes through the outbox again; all groups but this one know that they have handled it.

    Raises:
        NotAllowed: the event is beyond the retention, and gone; or the group is.
    """
    name = DeadLetter.objects.values_list("consumer", flat=True).get(pk=letter_id)
    group = registry.groups.get(name)
    if group is None:
        raise NotAllowed(f"there is no group {name} any more to handle dead letter {letter_id}; settle it")
    with transaction.atomic(), connection.cursor() as cursor:
        projections.hold(cursor, group)
        letter = DeadLetter.objects.select_for_update().get(pk=letter_id)
        if letter.redriven_at is not None:
            return False
        DeadLetter.objects.filter(pk=letter_id).update(redriven_at=Now(), redriven_by=actor)
        _send_again(cursor, letter)
    bell().ring()
    return True


def settle(letter_id: int, actor: str, note: str) -> bool:
    """Deal with a letter without its event being handled; False if somebody did that already.

    Its stream ends if nothing else would end it: it was overtaken, and no other letter of it waits.
    """
    with transaction.atomic():
        letter = DeadLetter.objects.select_for_update().get(pk=letter_id)
        if letter.redriven_at is not None:
            return False
        DeadLetter.objects.filter(pk=letter_id).update(
            redriven_at=Now(), redriven_by=actor, note=cleaned(note)[:500]
        )
        if not waiting().filter(stream=letter.stream).exists():
            store.end(letter.stream)
    return True


def _send_again(cursor: Any, letter: DeadLetter) -> None:
    again: list[Any] = [letter.event_at, letter.event_id, letter.consumer]
    cursor.execute("DELETE FROM choreography_inbox WHERE at = %s AND event_id = %s AND consumer = %s", again)
    cursor.execute(
        "SELECT EXISTS (SELECT FROM choreography_event WHERE at = %s AND position = %s)",
        [letter.event_at, letter.position],
    )
    if not cursor.fetchone()[0]:
        raise NotAllowed(
            f"the event of dead letter {letter.pk} is beyond the retention, and gone; settle the letter"
        )
    cursor.execute(
        "INSERT INTO choreography_outbox (position, at) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        [letter.position, letter.event_at],
    )
    cursor.execute(REWIND, [letter.event_at, letter.consumer])


def waiting() -> Any:
    """The letters that nobody has dealt with, oldest first."""
    return DeadLetter.objects.filter(redriven_at=None).order_by("id")
