"""Participants in memory that keep the contract: effects at most once per key, answers replayed,
refusals committed, tombstones for compensations that come first (rules 9, 11, 12, 22).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sagas.state import Done, Impossible, Outcome, Refused


class Anything(dict[str, Any]):
    """An answer that has whatever field is asked for; give exact ones where a step computes with them."""

    def __init__(self, step: str) -> None:
        super().__init__()
        self._step = step

    def __missing__(self, name: str) -> str:
        return f"{self._step}.{name}"

    def get(self, name: str, default: Any = None) -> Any:
        """The field, which is never absent."""
        return self[name]


@dataclass(frozen=True, slots=True)
class Request:
    """One request on its way: what the worker sends, and whose it is."""

    position: int
    step: str
    key: str
    body: str
    undoes: str | None
    run: int = 0


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that has happened at a participant: `undone` tells an undoing from a doing."""

    position: int
    step: str
    key: str
    undone: bool
    run: int


@dataclass(slots=True)
class Participants:
    """All participants of one simulated world, with the effects they had, in order."""

    answers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    operations: dict[str, tuple[str, Done | Refused]] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)

    def receive(self, request: Request, refusal: Refused | None = None) -> Outcome:
        """Process a request as the contract says; `refusal` is its answer if it is a new one."""
        known = self.operations.get(request.key)
        if known is not None:
            body, answer = known
            if body != request.body and body != TOMBSTONE:
                return Impossible("key_mismatch", f"{request.key} came with another body")
            return answer
        if request.undoes is not None and refusal is None:
            self._undo(request, request.undoes)
        elif refusal is None:
            self._happen(request, request.key, undone=False)
        answer = refusal or Done(self.usual(request.step))
        self.operations[request.key] = (request.body, answer)
        return answer

    def usual(self, step: str) -> dict[str, Any]:
        """What a step, or a compensation, is answered: as told, else anything that is asked for."""
        return dict(self.answers[step]) if step in self.answers else Anything(step)

    def ask(self, key: str) -> Done | Refused | None:
        """What became of the operation under `key`; None if it is unknown here."""
        known = self.operations.get(key)
        return None if known is None else known[1]

    def net(self, position: int) -> int:
        """How many effects of a step stand: done and not undone."""
        return sum(-1 if e.undone else 1 for e in self.effects if e.position == position)

    def done(self, position: int, run: int) -> int:
        """How many effects of a step were done under keys of one run of the saga."""
        return sum(e.position == position and e.run == run and not e.undone for e in self.effects)

    def _undo(self, request: Request, action_key: str) -> None:
        known = self.operations.get(action_key)
        if known is None:
            late = Refused("compensated_before", "its compensation came first")
            self.operations[action_key] = (TOMBSTONE, late)
        elif isinstance(known[1], Done):
            self._happen(request, action_key, undone=True)

    def _happen(self, request: Request, key: str, *, undone: bool) -> None:
        self.effects.append(Effect(request.position, request.step, key, undone, request.run))


TOMBSTONE = "\0tombstone"
