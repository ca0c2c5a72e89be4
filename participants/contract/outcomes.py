"""What an operation may say, and the JSON envelopes that carry it.

Success is `{"status": "success", "data": {...}}`, a business refusal is
`{"status": "failed", "code": "...", "reason": "..."}` with 409 or 422, and everything that is
neither is `{"status": "error", ...}`. The mismatch of a key has the shape of a refusal and the code
`key_mismatch`, but nothing is stored: it is the caller's mistake.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from http import HTTPStatus
from typing import TypeAlias

import orjson

Result: TypeAlias = Mapping[str, object]

CENT = Decimal("0.01")


class Refused(Exception):
    """A business refusal: `code` for programs, `reason` for people, `status` 409 or 422.

    Raised, it takes back what the operation wrote so far; returned, it keeps it (a request that
    is rejected with its reason stays on record). Either way it is committed under the key and
    replayed, and its compensation later finds nothing to undo.
    """

    def __init__(self, code: str, reason: str, status: int = HTTPStatus.CONFLICT) -> None:
        super().__init__(f"{code}: {reason}")
        if status not in (HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY):
            raise ValueError(f"A refusal answers 409 or 422, not {status}")
        self.code = code
        self.reason = reason
        self.status = int(status)


Outcome: TypeAlias = Result | Refused


def unprocessable(code: str, reason: str) -> Refused:
    """A refusal with 422: the request names something that does not exist or makes no sense."""
    return Refused(code, reason, HTTPStatus.UNPROCESSABLE_ENTITY)


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, ready to send: status, body bytes and extra headers."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def success(result: Result, status: int = HTTPStatus.OK) -> Answer:
    """The envelope of an operation that took effect, or of a query."""
    return Answer(int(status), encode({"status": "success", "data": result}))


def refusal(refused: Refused) -> Answer:
    """The envelope of a business refusal."""
    return Answer(
        refused.status, encode({"status": "failed", "code": refused.code, "reason": refused.reason})
    )


def error(status: int, code: str, reason: str, **headers: str) -> Answer:
    """An answer that is neither success nor refusal; header names use `_` for `-`."""
    return Answer(
        int(status),
        encode({"status": "error", "code": code, "reason": reason}),
        {name.replace("_", "-"): value for name, value in headers.items()},
    )


def encode(document: Result) -> bytes:
    """Compact JSON; decimals become strings with two places, dates and times ISO 8601."""
    return orjson.dumps(document, default=plain)


def plain(value: object) -> str:
    """What orjson has no type for, as text."""
    if isinstance(value, Decimal):
        return str(value.quantize(CENT))
    raise TypeError(f"{type(value).__name__} has no place in an answer")
