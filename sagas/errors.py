"""Everything the engine raises on purpose, one tree. Refusals of participants are values, not errors."""

from collections.abc import Sequence
from typing import Any


class SagaError(Exception):
    """Root of the tree; catch it to catch all of the engine's own errors."""


class DefinitionError(SagaError):
    """A saga is declared wrongly; the message names the saga, the step and the mend."""


class UnknownSagaType(SagaError):
    """No definition of that type and version is installed in this process."""


class InvalidInput(SagaError):
    """The input of a saga does not fit its `Input` model; `errors` has one entry a field."""

    def __init__(self, errors: Sequence[dict[str, Any]]) -> None:
        super().__init__("; ".join(f"{error['field']}: {error['message']}" for error in errors))
        self.errors = list(errors)


class IdempotencyConflict(SagaError):
    """The idempotency key was used before with another request."""


class SagaNotFound(SagaError):
    """There is no saga with that id."""


class NotAllowed(SagaError):
    """The intervention does not fit the saga's state; the message says why and what would."""


class Contended(SagaError):
    """A decision lost its race too many times in a row; nothing was written, try again."""


class LockHeld(SagaError):
    """Another saga holds the semantic lock, and this type does not wait for it."""
