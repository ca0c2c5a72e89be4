"""Rule 8: how the answers of participants are told apart."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sagas.remote import classify, retry_after
from sagas.state import Accepted, Done, Impossible, Outcome, Refused, Transient, Unknown

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


def body(**fields: Any) -> bytes:
    """An answer's envelope."""
    return json.dumps(fields).encode()


SUCCESS = body(status="success", data={"id": 7})
REFUSAL = body(status="failed", code="insufficient_funds", reason="too dear")
TABLE: list[tuple[int, dict[str, str], bytes, Outcome | type[Outcome]]] = [
    (200, {}, SUCCESS, Done({"id": 7})),
    (201, {}, SUCCESS, Done({"id": 7})),
    (200, {}, body(status="success"), Done(None)),
    (202, {}, body(status="accepted"), Accepted("callback")),
    (409, {}, REFUSAL, Refused("insufficient_funds", "too dear")),
    (422, {}, REFUSAL, Refused("insufficient_funds", "too dear")),
    (422, {}, body(status="failed", code="key_mismatch", reason="other body"), Impossible),
    (401, {}, b"", Impossible),
    (403, {}, b"", Impossible),
    (404, {}, b"", Impossible),
    (405, {}, b"", Impossible),
    (425, {}, b"", Transient("HTTP 425")),
    (429, {"Retry-After": "7"}, b"", Transient("HTTP 429", timedelta(seconds=7))),
    (429, {}, b"", Transient("HTTP 429")),
    (503, {"Retry-After": "2"}, b"", Transient("HTTP 503", timedelta(seconds=2))),
    # Everything else is unknown: it may have been processed.
    (503, {}, b"", Unknown),
    (500, {}, b"", Unknown),
    (502, {}, b"<html>", Unknown),
    (504, {}, b"", Unknown),
    (200, {}, b"", Unknown),
    (200, {}, b'{"status": "succ', Unknown),
    (200, {}, b"[1]", Unknown),
    (200, {}, REFUSAL, Unknown),
    (409, {}, b"", Unknown),
    (409, {}, body(status="failed"), Unknown),
    (422, {}, SUCCESS, Unknown),
    (400, {}, b"", Unknown),
    (301, {"Location": "/elsewhere"}, b"", Unknown),
    (204, {}, b"", Unknown),
    (200, {}, b"\xff\xfe", Unknown),
    (200, {}, b"[" * 100_000, Unknown),
]


@pytest.mark.parametrize(("status", "headers", "content", "expected"), TABLE)
def test_rule_8_answers_are_told_apart(
    status: int, headers: dict[str, str], content: bytes, expected: Outcome | type[Outcome]
) -> None:
    outcome = classify(status, headers, content)
    if isinstance(expected, type):
        assert type(outcome) is expected
    else:
        assert outcome == expected


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0),
        (" 120 ", 120),
        ("99999999", 86_400),
        ("Tue, 01 Jan 2030 12:00:30 GMT", 30),
        ("Tue, 01 Jan 2030 11:59:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("\u00b2", None),
        ("9" * 5000, 86_400),
        ("Tue, 01 Jan 2030 12:00:30", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: int | None) -> None:
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert retry_after(value, NOW) == expected
