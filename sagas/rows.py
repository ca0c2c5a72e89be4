"""How a saga's state goes to PostgreSQL and comes back: columns, and JSON for many rows at once.

The column lists come from the dataclasses of `state`, so state and table cannot drift apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import datetime
from operator import attrgetter
from typing import Any
from uuid import UUID

import orjson

from sagas.state import Effect, Entry, SagaState, Status, StepState, StepStatus

STEP_TYPES = {
    "status": "text", "effect": "text", "generation": "int", "attempts": "int", "crashes": "int",
    "forgiven": "int", "sequence": "int", "due_at": "timestamptz", "lease_until": "timestamptz",
    "request": "jsonb", "wait": "jsonb", "result": "jsonb", "error": "jsonb", "started_at": "timestamptz",
    "finished_at": "timestamptz", "undo_generation": "int", "undo_attempts": "int", "undo_crashes": "int",
    "undo_forgiven": "int", "undo_request": "jsonb", "undo_error": "jsonb",
    "undo_started_at": "timestamptz", "undo_finished_at": "timestamptz",
}  # fmt: skip
STEP_FIELDS = tuple(f.name for f in fields(StepState))
SAGA_FIELDS = tuple(f.name for f in fields(SagaState) if f.name != "steps")
RECORDSET = ", ".join(["position int", "name text", *(f"{c} {t}" for c, t in STEP_TYPES.items())])
_STEP_COLUMNS = ", ".join(f"t.{name}" for name in STEP_FIELDS)
STEPS_JSON = f"""(SELECT json_agg(json_build_array({_STEP_COLUMNS}) ORDER BY t.position)::text
    FROM sagas_sagastep t WHERE t.saga_id = {{saga}}.id)"""  # noqa: S608  names from our own dataclasses
SAGA_JSON = "json_build_array(" + ", ".join(f"{{saga}}.{name}" for name in SAGA_FIELDS) + ")::text"


def _default(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


# PostgreSQL keeps neither U+0000 nor half of a surrogate pair; one of them in an answer must not
# keep the answer from being recorded.
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def dumps(value: Any) -> str:
    """`value` as JSON that PostgreSQL keeps; times and ids as text."""
    try:
        text = orjson.dumps(value, default=str).decode()
    except TypeError:  # a number beyond 64 bits, half of a surrogate pair, a key that is no text
        text = json.dumps(value, default=_default, ensure_ascii=False).encode(errors="replace").decode()
    return _NUL.sub(r"\1\\ufffd", text) if "\\u0000" in text else text


def jsons(*values: Any) -> Iterator[str | None]:
    """Each of `values` as JSON, None as SQL's NULL."""
    return (None if value is None else dumps(value) for value in values)


def times(*values: datetime | None) -> Iterator[str | None]:
    """Each of `values` as text.

    Whether a time is there must not change its parameter's type: the statement would be prepared
    anew for each set of types, and the server would plan the rare ones at every execution.
    """
    return (None if value is None else value.isoformat() for value in values)


_step_values = attrgetter(*STEP_FIELDS)
_entry_values = attrgetter(*Entry.__slots__)


def steps_json(steps: Sequence[StepState]) -> str:
    """Steps for `jsonb_to_recordset(...) AS x(RECORDSET)`."""
    return dumps([dict(zip(STEP_FIELDS, _step_values(step), strict=True)) for step in steps])


def audit_json(entries: Sequence[Entry]) -> str:
    """Rows of the audit, likewise."""
    return dumps([dict(zip(Entry.__slots__, _entry_values(entry), strict=True)) for entry in entries])


def _time(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)


_STEP_TIMES = tuple(i for i, name in enumerate(STEP_FIELDS) if STEP_TYPES.get(name) == "timestamptz")
_STATUS, _EFFECT = STEP_FIELDS.index("status"), STEP_FIELDS.index("effect")
_SAGA_TIMES = frozenset(
    {"paused_at", "created_at", "started_at", "finished_at", "deadline_at", "waiting_since"}
)


def read_state(saga: str, steps: str) -> SagaState:
    """The state from the texts of `SAGA_JSON` and `STEPS_JSON`."""
    rows = []
    for values in json.loads(steps):
        for index in _STEP_TIMES:
            if values[index] is not None:
                values[index] = datetime.fromisoformat(values[index])
        values[_STATUS], values[_EFFECT] = StepStatus(values[_STATUS]), Effect(values[_EFFECT])
        rows.append(StepState(*values))
    known: dict[str, Any] = dict(zip(SAGA_FIELDS, json.loads(saga), strict=True))
    for name in _SAGA_TIMES:
        known[name] = _time(known[name])
    known["id"], known["status"] = UUID(known["id"]), Status(known["status"])
    known["parent_id"] = UUID(known["parent_id"]) if known["parent_id"] else None
    known["mailbox"] = tuple(known["mailbox"])
    return SagaState(**known, steps=tuple(rows))
