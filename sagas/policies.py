"""How patiently a step is repeated, and what becomes of it when that is over. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from sagas.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how patiently a call is repeated when its outcome is not definite.

    `attempts` counts the first one. The delay before retry n is `base * factor**n`, at most
    `cap`, spread by `jitter` (a share of the delay) so that sagas which failed together do not
    return together. `total` bounds the time since the step first
    began, or since a person resumed the saga. `on` names the failures
    that are retried: "transient" (provably not processed) and "unknown".
    """

    attempts: int = 3
    base: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    cap: timedelta = timedelta(seconds=60)
    jitter: float = 0.1
    total: timedelta | None = None
    on: frozenset[str] = frozenset({"transient", "unknown"})

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise DefinitionError(f"Retry(attempts={self.attempts}): the first attempt counts, use 1 or more")
        if not 0 <= self.jitter <= 1:
            raise DefinitionError(f"Retry(jitter={self.jitter}): give a share between 0 and 1")
        if not self.on <= {"transient", "unknown"}:
            raise DefinitionError(f"Retry(on={set(self.on)}): only 'transient' and 'unknown' can be retried")
        if self.base < timedelta(0) or self.cap < timedelta(0) or self.factor < 1:
            raise DefinitionError("Retry: base and cap cannot be negative, factor is 1 or more")

    def pause(self, retry: int) -> timedelta:
        """The pause before the `retry`-th repeat without its jitter."""
        seconds = self.base.total_seconds() * self.factor ** min(retry, 64)  # beyond a timedelta's range
        return timedelta(seconds=min(seconds, self.cap.total_seconds()))

    def delay(self, retry: int, seed: str) -> timedelta:
        """The pause before the `retry`-th repeat (1 is the first); `seed` fixes the jitter."""
        full = self.pause(retry)
        drawn = (
            int.from_bytes(hashlib.blake2s(f"{seed}:{retry}".encode(), digest_size=4).digest(), "big") / 2**32
        )
        return full * (1 + self.jitter * (2 * drawn - 1))


USUAL = Retry()
PATIENT = Retry(attempts=10, cap=timedelta(minutes=2))
CALL_TIMEOUT = timedelta(seconds=30)


class Fallback(Enum):
    """What becomes of a step that was given up, or whose participant's circuit is open.

    Undeclared, a given-up step compensates the saga and an open circuit defers the step.
    """

    COMPENSATE = "compensate"
    SKIP = "skip"
    RETRY_LATER = "retry_later"


@dataclass(frozen=True, slots=True)
class Cached:
    """Fallback: complete with the last known result of the same call, not older than `max_age`."""

    max_age: timedelta
