"""Rule 8: how the answers of participants are told apart."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from sagas import remote, wire
from sagas.remote import Envelope, classify, retry_after
from sagas.state import Accepted, Done, Impossible, Outcome, Refused, Transient, Unknown

SAGA = UUID("0190d5f0-0000-7000-8000-000000000001")
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
    (425, {}, b"", Transient("HTTP 425", answered=True)),
    (429, {"Retry-After": "7"}, b"", Transient("HTTP 429", timedelta(seconds=7), answered=True)),
    (429, {}, b"", Transient("HTTP 429", answered=True)),
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
    (200, {}, b'{"status": "success", "data": 1e308}', Done(1e308)),
    (200, {}, b'{"status": "success", "data": 1e400}', Unknown),
    (200, {}, b'{"status": "success", "data": [{"x": -1e999}]}', Unknown),
    (409, {}, b'{"status": "failed", "code": "sold_out", "x": 1e400}', Unknown),
    (200, {}, b'{"status": "success", "data": ' + b'{"a":[' * 95 + b"7" + b"]}" * 95 + b"}", Done),
    (200, {}, b'{"status": "success", "data": ' + b'{"a":[' * 105 + b"7" + b"]}" * 105 + b"}", Unknown),
    (200, {}, b'{"status": "success", "data": [' + b"[]," * 300 + b"0]}", Done),
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
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: int | None) -> None:
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert retry_after(value, NOW) == expected


@pytest.mark.parametrize(
    "headers",
    [{"Date": "Tue, 01 Jan 2030 12:00:00 GMT"}, {}, {"Date": "today"}, {"Date": "Tue, 01 Jan 2030"}],
)
def test_a_date_is_measured_by_the_clock_that_gave_it_else_by_the_databases(headers: dict[str, str]) -> None:
    wanted = {"Retry-After": "Tue, 01 Jan 2030 12:00:30 GMT"}
    now = NOW + timedelta(hours=5) if headers.get("Date", "").endswith("GMT") else NOW
    assert classify(503, wanted | headers, b"", now) == Transient("HTTP 503", timedelta(seconds=30))


def test_the_databases_clock_goes_on_while_the_peer_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 20.0])
    answer = wire.Answer(503, {"Retry-After": "Tue, 01 Jan 2030 12:00:30 GMT"}, b"")
    monkeypatch.setattr(remote, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(wire, "exchange", lambda *_: answer)
    envelope = Envelope(SAGA, "pay", "key", "", timedelta(seconds=30))
    request = {"participant": "payments", "issued_at": NOW.isoformat(), "method": "POST", "path": "/p"}
    outcome = remote.perform(request | {"body": "{}"}, envelope, NOW)
    assert outcome == Transient("HTTP 503", timedelta(seconds=10))


# --- Keys ---------------------------------------------------------------------------------------------

OLDEST = remote.KEY_RETENTION - remote.KEY_MARGIN
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize("which", ["of the call", "of what it undoes"])
@pytest.mark.parametrize(("age", "sent"), [(OLDEST, True), (OLDEST + SECOND, False)])
def test_rule_23_a_key_that_may_be_forgotten_is_not_sent(
    monkeypatch: pytest.MonkeyPatch, which: str, age: timedelta, sent: bool
) -> None:
    asked: list[object] = []

    def exchange(*call: object) -> wire.Answer:
        asked.append(call)
        return wire.Answer(200, {}, SUCCESS)

    monkeypatch.setattr(wire, "exchange", exchange)
    own, undone = (NOW - age, NOW) if which == "of the call" else (NOW, NOW - age)
    envelope = Envelope(SAGA, "pay", "key", "", SECOND, "undone", undone.isoformat())
    request = {"participant": "payments", "issued_at": own.isoformat(), "method": "POST", "path": "/p"}
    outcome = remote.perform(request | {"body": "{}"}, envelope, NOW)
    if sent:
        assert (outcome, len(asked)) == (Done({"id": 7}), 1)
    else:
        assert isinstance(outcome, Impossible)
        assert (outcome.code, asked) == ("key_expired", [])


# --- What people are shown ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "content", "reason"),
    [
        (500, b"", "HTTP 500"),
        (500, b"out of\n\tmemory\x00\x1b[31m ", "HTTP 500: out of memory [31m"),
        (500, body(status="error", reason="no disk"), "HTTP 500: no disk"),
        (500, body(reason={"disk": ["full"]}), 'HTTP 500: {"disk": ["full"]}'),
        (502, b"\n<html><title>502</title></html>", "HTTP 502"),
        (500, b"caf\xc3\xa9 \xff", "HTTP 500: caf\u00e9 \ufffd"),
        (200, b"", "HTTP 200: no success envelope"),
        (200, b"[1]", "HTTP 200: no success envelope: [1]"),
        (404, b"", "HTTP 404: the effect is unknown, a person must look"),
        (409, body(status="failed", code="closed", reason=None), ""),
        (409, body(status="failed", code="closed", reason=["a", 1]), '["a", 1]'),
    ],
)
def test_a_reason_is_text_that_people_can_read(status: int, content: bytes, reason: str) -> None:
    outcome = classify(status, {}, content)
    assert isinstance(outcome, Unknown | Impossible | Refused)
    assert outcome.reason == reason


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (500, b"x" * 900_000),
        (200, b"x" * 900_000),
        (404, body(reason="x" * 900_000)),
        (409, body(status="failed", code="closed", reason="x" * 900_000)),
    ],
)
def test_a_reason_has_a_bounded_length(status: int, content: bytes) -> None:
    outcome = classify(status, {}, content)
    assert isinstance(outcome, Unknown | Impossible | Refused)
    assert len(outcome.reason) == remote.LONGEST_REASON
    assert outcome.reason.endswith("x\u2026")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            wire.Answer(200, {}, body(status="success", data={"state": "unknown"})),
            "payments says of the operation: unknown",
        ),
        (
            wire.Answer(200, {}, body(status="success", data=[1])),
            "payments does not say what became of the operation",
        ),
        (wire.Answer(202, {}, b""), "payments does not say what became of the operation"),
        (wire.Answer(503, {"Retry-After": "soon"}, b""), "HTTP 503"),
    ],
)
def test_what_a_status_query_leaves_open_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch, answer: wire.Answer, reason: str
) -> None:
    monkeypatch.setattr(wire, "exchange", lambda *_: answer)
    assert remote.ask("payments", "key") == Unknown(reason)
