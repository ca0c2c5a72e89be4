"""What must hold for every saga, whatever happened: one function that reads all the databases.

`assert_invariants` takes the URL of the sagas' database (`default`) and those of the participants,
and believes nobody: effects are counted in the participants' tables, orders in the audit. Call it
when every saga has come to rest.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.ledgers import LEDGERS

ENDED = frozenset({"completed", "compensated", "failed"})
PARKED = frozenset({"parked", "compensation_failed"})
RESTING = ENDED | PARKED
SETTLED = {
    "completed": {"completed", "skipped"},
    "compensated": {"completed", "compensated", "failed", "skipped"},
    "failed": {"completed", "failed", "skipped"},
}
ALERTS = {"parked": "saga_parked", "compensation_failed": "compensation_failed"}
# Steps without a compensation of their own, whose effect another step's compensation takes back.
TAKEN_BACK_BY = {"confirm-transaction": "cancel-transaction"}
# Operations that only ask: participants keep no key of them.
QUESTIONS = frozenset(
    {"check-stock", "check-stores", "employee-schedule", "price-items", "store-info", "validate-transaction"}
)
Row = dict[str, Any]


@dataclass
class Saga:
    """One saga: its row, its steps and audit in order, and what the participants keep under its keys."""

    row: Row
    steps: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    operations: list[Row] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Its id as the participants write it."""
        return str(self.row["id"])

    @property
    def status(self) -> str:
        """Where it stands."""
        return str(self.row["status"])

    @property
    def live(self) -> list[Row]:
        """The actions that a participant has done and not undone."""
        return [o for o in self.operations if o["direction"] == "action" and o["state"] == "completed"]

    @property
    def undone(self) -> bool:
        """Whether nothing of it may be left."""
        return self.status in ("compensated", "failed")

    def of_kind(self, *kinds: str) -> list[Row]:
        """The audit rows of these kinds, in order."""
        return [event for event in self.events if event["kind"] in kinds]

    def told(self) -> str:
        """The audit, for the message of a failure."""
        rows = (f"e{e['epoch']} {e['kind']} {e['step']} #{e['attempt']}" for e in self.events)
        keys = (f"{o['key'].partition(':')[2]} {o['state']}" for o in self.operations)
        return f"{self.row['type']} {self.id} {self.status}\n  " + "\n  ".join([*rows, *keys])


def assert_invariants(databases: Mapping[str, str], alerted: Collection[str]) -> Counter[str]:
    """Fails, naming the sagas, unless every invariant holds; returns how many sagas ended how.

    `alerted`: the sagas that the logs have called a person for.
    """
    with ExitStack() as stack:
        books = {name: stack.enter_context(connected(url)) for name, url in databases.items()}
        sagas = load(books)
        broken = [f"{problem}\n{saga.told()}" for saga in sagas for problem in problems(saga, alerted)]
        for name, ledger in LEDGERS.items():
            broken += [f"{name}: {problem}" for problem in ledger(books[name], {s.id: s for s in sagas})]
    assert not broken, "\n\n".join(broken)
    return Counter(saga.status for saga in sagas)


def connected(url: str) -> psycopg.Connection[Row]:
    """One connection for reading."""
    return psycopg.connect(url, row_factory=dict_row, autocommit=True, connect_timeout=5)


def load(books: Mapping[str, psycopg.Connection[Row]]) -> list[Saga]:
    """Every saga that was told to run, with all that is known of it anywhere."""
    rows = books["default"].execute("SELECT * FROM sagas_saga WHERE deadline_at IS NOT NULL ORDER BY id")
    sagas = {str(row["id"]): Saga(row) for row in rows}
    for row in books["default"].execute("SELECT * FROM sagas_sagastep ORDER BY saga_id, position"):
        if str(row["saga_id"]) in sagas:
            sagas[str(row["saga_id"])].steps.append(row)
    for row in books["default"].execute("SELECT * FROM sagas_sagaevent ORDER BY id"):
        if str(row["saga_id"]) in sagas:
            sagas[str(row["saga_id"])].events.append(row)
    for name in books.keys() - {"default"}:
        for row in books[name].execute(f"SELECT * FROM {name}_operation ORDER BY id"):  # noqa: S608 - names of ours
            saga_id, step, direction, generation = row["key"].split(":")
            known = {"participant": name, "step_name": step, "direction": direction}
            sagas[saga_id].operations.append({**row, **known, "generation": int(generation)})
    return list(sagas.values())


def problems(saga: Saga, alerted: Collection[str]) -> Iterator[str]:
    """What is wrong with one saga."""
    yield from has_ended(saga, alerted)
    if saga.status in ENDED:
        yield from is_settled(saga)
        yield from effects_are_right(saga)
    yield from undone_in_reverse(saga)
    yield from nothing_in_flight_when_undone(saga)
    yield from epochs_hold(saga)
    yield from attempts_hold(saga)


def has_ended(saga: Saga, alerted: Collection[str]) -> Iterator[str]:
    """Completed, compensated or failed, or parked with an alert: none is lost or silent."""
    if saga.status not in RESTING:
        yield f"is neither at an end nor parked but {saga.status}"
    elif saga.status in PARKED:
        if not saga.of_kind(ALERTS[saga.status]):
            yield "is parked without a word in the audit"
        if saga.id not in alerted:
            yield "is parked without an alert in the logs"


def is_settled(saga: Saga) -> Iterator[str]:
    """An ended saga has nothing left to do (rule 16)."""
    if saga.row["finished_at"] is None or saga.row["wake_at"] is not None:
        yield "has ended but is still to be woken, or does not say when it ended"
    for step in saga.steps:
        if step["status"] not in SETTLED[saga.status]:
            yield f"has ended {saga.status} with step {step['name']} {step['status']}"
        if step["due_at"] or step["lease_until"] or step["wait"]:
            yield f"has ended with step {step['name']} due, claimed or waiting"


def effects_are_right(saga: Saga) -> Iterator[str]:
    """Completed: every effect once. Compensated or failed: none left (rules 10, 11)."""
    live = Counter(operation["step_name"] for operation in saga.live)
    taken_back = {o["step"] for o in saga.operations if o["compensates"] and o["state"] == "completed"}
    for step in saga.steps:
        name, left = step["name"], live.pop(step["name"], 0)
        if saga.undone:
            if left and TAKEN_BACK_BY.get(name) not in taken_back:
                yield f"has ended {saga.status} but the effect of {name} is still there"
        elif (
            step["status"] == "completed" and "participant" in (step["request"] or {}) and not only_asks(step)
        ):
            now = [o for o in saga.live if o["step_name"] == name and o["generation"] == step["generation"]]
            if left != 1 or len(now) != 1:
                yield f"has completed with {left} effects of {name}, {len(now)} of its present generation"
        elif left and step["effect"] != "unknown":
            yield f"has completed with {left} effects of {name}, which is {step['status']}"
    if live:
        yield f"has effects of steps that it does not have: {dict(live)}"


def only_asks(step: Row) -> bool:
    """Whether the step called an operation that has no effect."""
    path = (step.get("request") or {}).get("path", "")
    return bool(path) and path.partition("?")[0].split("/")[2] in QUESTIONS


def undone_in_reverse(saga: Saga) -> Iterator[str]:
    """What was done first is undone last (rule 13): by the audit, and by the order drawn."""
    done: list[str] = []
    never = {*TAKEN_BACK_BY, *(step["name"] for step in saga.steps if only_asks(step))}
    for event in saga.of_kind("step_completed", "step_compensated"):
        step = event["step"]
        if event["kind"] == "step_completed":
            done = [*(name for name in done if name != step), step]
        elif step in done:
            later = [name for name in done[done.index(step) + 1 :] if name not in never]
            if later:
                yield f"undid {step} before {', '.join(later)}, which it had done later"
            done.remove(step)
    last = [e for e in saga.of_kind("step_compensated") if e["epoch"] == saga.row["epoch"]]
    drawn = {step["name"]: step["sequence"] for step in saga.steps}
    order = [drawn[e["step"]] for e in last]
    if None not in order and order != sorted(order, reverse=True):
        yield f"undid {[e['step'] for e in last]} in the order {order}"


def nothing_in_flight_when_undone(saga: Saga) -> Iterator[str]:
    """The first undo waits until every claimed step is recorded or lost (rule 13)."""
    in_flight: set[str] = set()
    for event in saga.events:
        if event["kind"] == "step_claimed":
            in_flight.add(event["step"])
        elif event["kind"] == "compensation_claimed":
            if in_flight:
                yield f"began to undo {event['step']} while {sorted(in_flight)} was in flight"
        else:
            in_flight.discard(event["step"])


def epochs_hold(saga: Saga) -> Iterator[str]:
    """No claim at a stale epoch: epochs never fall, and within one all claims go one way (rules 3, 4)."""
    epochs = [event["epoch"] for event in saga.events]
    if epochs != sorted(epochs):
        yield f"wrote its audit in the order of epochs {epochs}"
    ways: dict[int, set[str]] = defaultdict(set)
    for event in saga.of_kind("step_claimed", "compensation_claimed"):
        ways[event["epoch"]].add(event["kind"])
    if any(len(kinds) > 1 for kinds in ways.values()):
        yield "claimed steps forward and backward within one epoch"


def attempts_hold(saga: Saga) -> Iterator[str]:
    """No record of a stale attempt takes hold: each belongs to the last claim of its step (rule 6)."""
    claimed: dict[tuple[str, bool], int] = {}
    for event in saga.events:
        match event["kind"]:
            case "step_claimed":
                claimed[event["step"], False] = event["attempt"]
            case "compensation_claimed":
                claimed[event["step"], True] = event["attempt"]
            case "step_compensated":
                if claimed.pop((event["step"], True), None) != event["attempt"]:
                    yield f"recorded the undo of {event['step']} for an attempt that was not claimed"


def generations(saga: Saga) -> str:
    """How often each step's keys were renewed, for a test's message."""
    return json.dumps({step["name"]: step["generation"] for step in saga.steps})
