"""What must hold between sagas that share a semantic lock, checked apart from the store (rule 18)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sagas.state import FINISHED, NEEDS_PERSON, Status
from sagas.testing.invariants import require

if TYPE_CHECKING:
    from sagas.testing.stage import Stage


@dataclass(slots=True)
class Exclusion:
    """Watches who works under a lock, with a memory of its own of who came first."""

    lines: dict[str, list[Stage]] = field(default_factory=dict)

    def queued(self, stage: Stage) -> None:
        """A saga asks for its lock, perhaps again."""
        line = self.lines.setdefault(stage.lock or "", [])
        if stage not in line:
            line.append(stage)

    def granted(self, stage: Stage) -> None:
        """A saga begins because its lock is its own: those before it in the line must have begun."""
        line = self.lines[stage.lock or ""]
        early = [other.saga_id for other in line[: line.index(stage)] if other.state.awaits_lock]
        require(not early, f"rule 18: {stage.lock!r} is granted past those who wait for it longer: {early}")

    def claimed(self, stage: Stage) -> None:
        """A saga works: of other families nobody may be between begin and end under the same lock."""
        if stage.lock is None:
            return
        inside = [
            other.saga_id
            for other in stage.scene.stages.values()
            if other.lock == stage.lock and other.root is not stage.root and _inside(other)
        ]
        require(not inside, f"rule 18: two sagas work under the lock {stage.lock!r}, also {inside}")

    def ended(self, stages: Iterable[Stage]) -> None:
        """Nothing moves any more: no lock has outlived its saga, and who waits, waits for one that lives."""
        for stage in stages:
            state, store = stage.state, stage.store
            if stage.lock is None:
                continue
            holder = store.holder(stage.lock)
            gone = state.status in FINISHED and holder == stage.saga_id
            require(not gone, f"rule 18: the lock {stage.lock!r} outlives its saga, which is {state.status}")
            if state.awaits_lock:
                before = stage.scene.stages.get(holder) if holder is not None else None
                require(before is not None, f"rule 18: nobody holds {stage.lock!r}, and a saga waits for it")
                own = before is not None and before.root is stage.root
                require(not own, f"rule 18: a child waits for the lock {stage.lock!r} of its own family")
                rests = before is None or before.state.status in NEEDS_PERSON | {Status.WAITING}
                require(rests, f"rule 18: the lock {stage.lock!r} is held, and its saga has not ended")


def _inside(stage: Stage) -> bool:
    """Between the grant of its lock and its end."""
    state = stage.state
    return state.status not in FINISHED and not state.awaits_lock
