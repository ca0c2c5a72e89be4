"""A saga's audit as it is written: server-sent events, which a browser reads as `EventSource`.

Each event has the id of its audit row, so who comes back with `Last-Event-ID` misses none. The rows
of one saga are written under its lock, hence their ids are in the order in which they are seen.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import Throttled
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request

from sagas.api import access, schema
from sagas.api.answers import reason_of
from sagas.api.views import Endpoint
from sagas.api.waiting import release_connection
from sagas.errors import SagaNotFound
from sagas.state import FINISHED

MEDIA_TYPE = "text/event-stream"
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 1.0
GROWTH = 1.3
HEARTBEAT = 10.0
LONGEST = 300.0
COME_BACK_AFTER = 1000  # milliseconds
BATCH = 200
MAX_ID = 2**63 - 1
EACH = 4

# One statement a look: the saga by its key, and what lies behind the last row in the index of its history.
LOOK = """
SELECT s.status, e.id, e.at, e.kind, e.step, e.attempt, e.detail::text
FROM sagas_saga s LEFT JOIN LATERAL (
    SELECT * FROM sagas_sagaevent WHERE saga_id = s.id AND id > %s ORDER BY id LIMIT %s) e ON true
WHERE s.id = %s ORDER BY e.id"""

Row = tuple[str, int | None, Any, str, str, int, str]


class Places:
    """How many streams there may be in this process, and of one caller; each holds a thread."""

    def __init__(self, most: int, each: int) -> None:
        self._most, self._each = most, each
        self._lock, self._taken = threading.Lock(), Counter[Any]()

    def take(self, whose: Any) -> bool:
        """Take a place; False if there is none."""
        with self._lock:
            if self._taken.total() >= self._most or self._taken[whose] >= self._each:
                return False
            self._taken[whose] += 1
            return True

    def give_back(self, whose: Any) -> None:
        """Let another have it."""
        with self._lock:
            self._taken[whose] -= 1
            self._taken += Counter()  # forgets who has none


places = Places(getattr(settings, "SAGA_API_STREAMS", 12), EACH)
closing = threading.Event()


def end_with_the_server() -> None:
    """Let streams end when this process is told to; a server waits for its requests before it goes.

    To be called when the server has installed its own handler of SIGTERM, which is called as well.
    """
    before = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        return

    def told(number: int, frame: Any) -> None:
        closing.set()
        before(number, frame)

    signal.signal(signal.SIGTERM, told)


def look(saga_id: UUID, after: int) -> list[Row]:
    """The status of a saga, on each row, and its audit behind `after`; one row without an id if none."""
    with connection.cursor() as cursor:
        cursor.execute(LOOK, (after, BATCH, saga_id))
        rows: list[Row] = cursor.fetchall()
    if not rows:
        raise SagaNotFound(f"there is no saga {saga_id}")
    return rows


def written(row: Row) -> str:
    """One audit row as an event."""
    status, number, at, kind, step, attempt, detail = row
    known = json.loads(detail) if detail else {}
    data = {
        "at": at.isoformat(),
        "kind": kind,
        "step": step or str(known.get("step") or ""),
        "attempt": attempt,
        "code": str(known.get("code") or ""),
        "reason": reason_of(known),
        "status": status,
    }
    return f"id: {number}\nevent: progress\ndata: {json.dumps(data)}\n\n"


class Stream(Iterator[bytes]):
    """The body of the answer; `done` is called once, however it ends."""

    def __init__(self, saga_id: UUID, after: int, done: Callable[[], None]) -> None:
        self._lines, self._done = follow(saga_id, after), done
        self._open = True

    def __next__(self) -> bytes:
        return next(self._lines).encode()

    def close(self) -> None:
        """Django and the server call this when the answer is sent, or nobody reads it any more."""
        if self._open:
            self._open = False
            self._done()


def follow(saga_id: UUID, after: int) -> Iterator[str]:
    """Events until the saga has ended, which is told as `end`; a comment when nothing happens for long.

    It also ends, without that word, when it has lasted long enough, when the server goes, and when the
    database does not answer: a browser then comes back by itself.
    """
    yield f"retry: {COME_BACK_AFTER}\n\n"
    begun = heard = time.monotonic()
    pause = FIRST_PAUSE
    while not closing.is_set() and time.monotonic() - begun < LONGEST:
        try:
            rows = look(saga_id, after)
        except (OperationalError, InterfaceError):
            return
        finally:
            release_connection()
        events = [row for row in rows if row[1] is not None]
        if events:
            after, heard, pause = events[-1][1] or after, time.monotonic(), FIRST_PAUSE
            yield "".join(map(written, events))
        if rows[0][0] in FINISHED and len(events) < BATCH:
            yield f"event: end\ndata: {json.dumps({'status': rows[0][0]})}\n\n"
            return
        if time.monotonic() - heard >= HEARTBEAT:
            heard = time.monotonic()
            yield ": still here\n\n"
        if len(events) < BATCH:
            closing.wait(pause)
            pause = min(pause * GROWTH, LONGEST_PAUSE)


class EventRenderer(JSONRenderer):
    """Lets a caller ask for events; what goes wrong is told in JSON all the same."""

    media_type = MEDIA_TYPE
    format = "events"
    charset = None


class ProgressView(Endpoint):
    """One saga as it moves."""

    renderer_classes: tuple[type[BaseRenderer], ...] = (JSONRenderer, EventRenderer)

    @extend_schema(
        operation_id="follow_saga",
        tags=["sagas"],
        parameters=[
            schema.ID,
            OpenApiParameter(
                "Last-Event-ID",
                OpenApiTypes.INT64,
                OpenApiParameter.HEADER,
                description="Go on behind this event.",
            ),
        ],
        responses={
            (200, MEDIA_TYPE): OpenApiResponse(OpenApiTypes.STR, description="Events, until the end"),
            204: OpenApiResponse(description="It has ended, and you have seen all"),
            **schema.problems(404),
        },
    )
    def get(self, request: Request, saga_id: UUID) -> HttpResponseBase:
        """Follow a saga by server-sent events: `progress` for each step of it, then `end`."""
        access.require_visible(request.user, saga_id)
        after = last_seen(request.headers.get("Last-Event-ID", ""))
        (status, number, *_), *_ = look(saga_id, after)
        if after and number is None and status in FINISHED:
            return HttpResponse(status=HTTPStatus.NO_CONTENT)  # a browser does not come back then
        whose = request.user.pk
        if not places.take(whose):
            raise Throttled(wait=2, detail="Too many streams are open; ask for the saga itself instead.")
        stream = Stream(saga_id, after, lambda: places.give_back(whose))
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingHttpResponse(stream, content_type=MEDIA_TYPE, headers=headers)


def last_seen(header: str) -> int:
    """The id of the last event somebody has; 0 for none, and for what was never an id of ours."""
    return min(int(header), MAX_ID) if header.isascii() and header.isdigit() and len(header) < 20 else 0
