"""Consumers: take events from the bus, react or fold, record, acknowledge.

Reading top-down: `Consumer.turn` is one round; `_react` handles one event by its group's reaction,
`_fold` a batch by its group's statement; `_failed` decides between another delivery and the dead letters,
`_hold_back` waits for a participant without spending a delivery. What was delivered before is taken alone,
so that an event which its consumers die of takes no other with it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

import orjson
import structlog
from django.db import InterfaceError, OperationalError

from sagas.choreography import deadletters, metrics, projections, store
from sagas.choreography.bus import Bus, Entry
from sagas.choreography.calling import Held, ParticipantCaller, Unsettled
from sagas.choreography.conf import conf
from sagas.choreography.events import Event, parse
from sagas.choreography.keys import WrongKey
from sagas.choreography.topics import Caller, Facts, Group
from sagas.clock import clock

log = structlog.get_logger(__name__)

BATCH_OF_REACTIONS = 4
BATCH_OF_FOLDS = 500
WAIT = timedelta(milliseconds=500)
HOLD_EVERY = 1.0
LOST = "its consumers were lost"
UNTOLD = "given up, and what was to be told of that could not be; the log says why"
DATABASE_ERRORS = (OperationalError, InterfaceError)
NO_FAULT_OF_EVENTS = (*DATABASE_ERRORS, WrongKey)
# What SQLSTATEs of a server that cannot serve begin with: no connection, no resources, stopping, starting.
OUTAGES = ("08", "53", "57P", "58")


class Consumer:
    """One consumer of one group; its name must be its own."""

    def __init__(self, group: Group, name: str, bus: Bus) -> None:
        self.group = group
        self.name = name
        self.bus = bus
        self._claim_at = 0.0
        self._alone = False
        self._held_at = 0.0

    def turn(self, wait: timedelta = WAIT) -> int:
        """Handle what there is to handle; returns how many entries that were.

        Raises:
            OperationalError, InterfaceError, RedisError: a server is away; what was taken comes again.
            WrongKey: the settings do not open a client's key; the same.
        """
        entries = self._claimed() or self.bus.read(self.group, self.name, self._batch, wait)
        if not entries:
            return 0
        self._held_at = time.monotonic()
        wanted = [entry for entry in entries if entry.type in self.group.types]
        others = [entry.id for entry in entries if entry.type not in self.group.types]
        self.bus.acknowledge(self.group, [entry.id for entry in self._foreign(entries)] + others)
        try:
            if self.group.fold is not None:
                self._fold(wanted)
            else:
                self._react_to_all(wanted)
        except NO_FAULT_OF_EVENTS:
            self.bus.put_off(self.group, self.name, wanted, conf().backoff, counts=False)
            raise
        return len(entries)

    @property
    def _batch(self) -> int:
        return BATCH_OF_REACTIONS if self.group.fold is None else BATCH_OF_FOLDS

    def _claimed(self) -> list[Entry]:
        """What others left, looked for at most every quarter of a second; alone what was delivered before."""
        if time.monotonic() < self._claim_at:
            return []
        found = self.bus.claim(self.group, self.name, 1 if self._alone else self._batch)
        self._claim_at = 0.0 if found else time.monotonic() + WAIT.total_seconds() / 2
        new = [entry for entry in found if entry.deliveries == 1]
        counted = [entry for entry in found if entry.deliveries > 1]
        self._alone = bool(counted) and not new
        taken, later = (new, counted) if new else (counted[:1], counted[1:])
        self.bus.put_off(self.group, self.name, later, timedelta(0), counts=False)
        return taken

    def _foreign(self, entries: Sequence[Entry]) -> list[Entry]:
        """Entries that no relay of ours has written: kept on the dead-letter stream, once."""
        foreign = [entry for entry in entries if not entry.type or not entry.content]
        for entry in foreign:
            self.bus.bury(self.group, entry, "not an event")
        return foreign

    # --- Reactions

    def _react_to_all(self, entries: Sequence[Entry]) -> None:
        for index, entry in enumerate(entries):
            if self._react(entry):
                self.bus.acknowledge(self.group, [entry.id])
            if time.monotonic() - self._held_at > HOLD_EVERY:
                self.bus.hold(self.group, self.name, [later.id for later in entries[index + 1 :]])
                self._held_at = time.monotonic()

    def _react(self, entry: Entry) -> bool:
        """True when the group is done with the event, one way or the other."""
        event = self._parsed(entry)
        if event is None:
            return True
        handled, key = store.look(self.group, event)
        if handled:
            return True
        if _overdelivered(entry):
            return self._give_up(entry, event, key, LOST)
        try:
            facts = react(self.group, event, key, ParticipantCaller(event, self.group.name))
            done = store.record(self.group, event, facts, key)
        except Held as held:
            return self._hold_back(entry, event, held)
        except Unsettled as error:
            return self._failed(entry, event, key, str(error))
        except Exception as error:
            if no_fault_of_events(error):
                raise
            log.exception("a reaction failed", consumer=self.group.name, event_id=str(event.id))
            return self._failed(entry, event, key, f"{type(error).__name__}: {error}")
        self._recorded(event, done, facts)
        return True

    def _recorded(self, event: Event, done: store.Recorded, facts: Facts) -> None:
        if not done.fresh:
            return
        metrics.consumed(self.group, event, (clock.now() - event.time).total_seconds())
        metrics.told(self.group, done.facts)
        if done.facts:
            self.bus.ring()
        elif facts:
            log.info("facts came too late", consumer=self.group.name, stream=str(event.stream))

    def _failed(self, entry: Entry, event: Event, key: bytes | None, reason: str) -> bool:
        """Another delivery after a pause, or the dead letters."""
        if entry.deliveries > conf().redeliveries:
            return self._give_up(entry, event, key, reason)
        pause = conf().backoff * 2 ** (entry.deliveries - 1)
        log.warning("event put off", consumer=self.group.name, event_id=str(event.id), reason=reason)
        self.bus.put_off(self.group, self.name, [entry], min(pause, conf().claim_after), counts=True)
        return False

    def _hold_back(self, entry: Entry, event: Event, held: Held) -> bool:
        """Another delivery when the participant may be called again; this one does not count.

        However long that takes: the stream's own timeout ends the waiting, and an undoing must not be
        given up.
        """
        log.info("event held back", consumer=self.group.name, event_id=str(event.id), reason=str(held))
        self.bus.put_off(self.group, self.name, [entry], min(held.wait, conf().claim_after), counts=False)
        return False

    def _give_up(self, entry: Entry, event: Event, key: bytes | None, reason: str) -> bool:
        log.error(
            "event_dead",
            consumer=self.group.name,
            type=event.type,
            stream=str(event.stream),
            event_id=str(event.id),
            reason=reason,
        )
        resign = self.group.resignations.get(event.type)
        bury = partial(deadletters.bury, self.group, event, deliveries=entry.deliveries, key=key)
        try:
            facts = resign(event, reason) if resign is not None else []
            done = bury(facts, reason=reason)
        except Exception as error:
            if no_fault_of_events(error):
                raise
            log.exception("giving up failed, so nothing is told of it", consumer=self.group.name)
            facts, done = [], bury([], reason=UNTOLD)
        self._recorded(event, done, facts)
        self.bus.bury(self.group, entry, "given up; its dead letter in the database says why")
        return True

    def _parsed(self, entry: Entry) -> Event | None:
        """The event of an entry; what is none goes to the dead-letter stream."""
        try:
            event = parse(orjson.loads(entry.content))
            if (event.topic, event.type) != (self.group.topic.name, entry.type):
                raise ValueError("an event of another topic, or of another type than its entry says")
            return event
        except ValueError as error:
            log.error("entry is no event", consumer=self.group.name, entry=entry.id, reason=str(error))
            self.bus.bury(self.group, entry, str(error))
            return None

    # --- Folds

    def _fold(self, entries: Sequence[Entry]) -> None:
        """The whole batch at once; if that fails, each by itself, so that one cannot hold up the others."""
        batch: list[tuple[Entry, Event]] = []
        for entry in entries:
            event = self._parsed(entry)
            if event is not None and _overdelivered(entry):
                self._give_up(entry, event, None, LOST)
            elif event is not None:
                batch.append((entry, event))
        later: set[str] = set()
        try:
            self._folded([event for _, event in batch])
        except Exception as error:
            if no_fault_of_events(error):
                raise
            log.exception("a batch failed, its events are folded one by one", consumer=self.group.name)
            later = {entry.id for entry, event in batch if not self._fold_one(entry, event)}
        self.bus.acknowledge(self.group, [entry.id for entry in entries if entry.id not in later])

    def _folded(self, events: Sequence[Event]) -> None:
        fresh = projections.apply(self.group, events)
        now = clock.now()
        for event in events:
            if event.id in fresh:
                metrics.consumed(self.group, event, (now - event.time).total_seconds())

    def _fold_one(self, entry: Entry, event: Event) -> bool:
        try:
            self._folded([event])
        except Exception as error:
            if no_fault_of_events(error):
                raise
            return self._failed(entry, event, None, f"{type(error).__name__}: {error}")
        return True


def react(group: Group, event: Event, key: bytes | None, call: Caller) -> Facts:
    """What the group has to say to an event, with its personal data as far as the key opens it.

    Raises:
        Unsettled: and whatever the reaction raises, such as for a field that nobody can read any more.
    """
    return group.reactions[event.type](store.today(event, key), call)


def no_fault_of_events(error: Exception) -> bool:
    """Whether a server is away, or the settings are wrong; not so if the server refused a statement."""
    if not isinstance(error, DATABASE_ERRORS):
        return isinstance(error, WrongKey)
    state: str | None = getattr(error.__cause__, "sqlstate", None)
    return state is None or state.startswith(OUTAGES)


def _overdelivered(entry: Entry) -> bool:
    """Whether whoever had it before has died of it, as often as an event is delivered."""
    return entry.deliveries > conf().redeliveries + 1
