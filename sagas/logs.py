"""Structured logs: constant text plus fields, with saga and correlation id on every line.

`LOG_FORMAT=json` for collectors, `console` for people. Configured by `setup()`, which the project's
settings call through Django's LOGGING_CONFIG.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable
from typing import Any

import structlog
from django.http import HttpRequest, HttpResponse

from sagas.state import Decision, Entry, SagaState

log = structlog.get_logger("sagas")

# Celery's lines for every task and tick say less than the engine's one for every transition.
CHATTY = ("celery.app.trace", "celery.beat", "celery.worker.strategy")
CORRELATION = re.compile(r"[A-Za-z0-9._:-]{1,128}")
ALARMS = frozenset({"saga_parked", "compensation_failed"})
TIMEOUTS = frozenset({"timeout", "wait_timeout"})
QUIET = frozenset(
    {"step_claimed", "step_completed", "compensation_claimed", "step_compensated", "step_skipped"}
)


def setup(level: str = "INFO", form: str = "console") -> None:
    """Send structlog and the standard library's records through one formatter to standard error."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if form == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=False, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # Django's own configuration, applied before this one, prints as well while DEBUG is on.
    of_django = logging.getLogger("django")
    of_django.handlers[:] = [h for h in of_django.handlers if not isinstance(h, logging.StreamHandler)]


def adopt() -> None:
    """In a project that has not configured structlog, pass lines on to the standard library's logging."""
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def saga(text: str, state: SagaState, **fields: Any) -> None:
    """One line about a saga."""
    log.info(text, saga=str(state.id), type=state.type, correlation_id=state.correlation_id, **fields)


def decided(decision: Decision) -> None:
    """One line per entry of a decision; what a person must see is an error with the saga's state."""
    debugging = logging.getLogger("sagas").isEnabledFor(logging.DEBUG)
    told = [entry for entry in decision.audit if debugging or entry.kind not in QUIET]
    if not told:
        return
    state = decision.state
    common = {"saga": str(state.id), "type": state.type, "correlation_id": state.correlation_id}
    for entry in told:
        fields = {**common, "step": entry.step, "attempt": entry.attempt, **entry.detail}
        if _alarms(entry):
            log.error(entry.kind, **_whole(state), **fields)
        elif entry.kind in QUIET:
            log.debug(entry.kind, **fields)
        else:
            log.info(entry.kind, **fields)


def _alarms(entry: Entry) -> bool:
    """Whether a person must see it: a saga left to them, given up for its time, or late past its pivot."""
    return (
        entry.kind in ALARMS
        or (entry.kind == "saga_turned" and entry.detail.get("code") in TIMEOUTS)
        or (entry.kind == "deadline_extended" and bool(entry.detail.get("past_pivot")))
    )


def _whole(state: SagaState) -> dict[str, Any]:
    """Where the saga stands, for who has the log alone; what it is about is read in the admin."""
    steps = {
        step.name: {
            "status": str(step.status),
            "effect": str(step.effect),
            "attempts": step.attempts,
            "undo_attempts": step.undo_attempts,
            "error": step.undo_error or step.error,
        }
        for step in state.steps
    }
    return {"status": str(state.status), "epoch": state.epoch, "steps": steps}


class CorrelationMiddleware:
    """Takes `X-Correlation-Id` from the caller, or makes one; it is on every log line and the answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Correlation-Id", "")
        correlation_id = given if CORRELATION.fullmatch(given) else str(uuid.uuid4())
        request.META["sagas.correlation_id"] = correlation_id
        with structlog.contextvars.bound_contextvars(correlation_id=correlation_id):
            response = self.get_response(request)
        response["X-Correlation-Id"] = correlation_id
        return response


def from_settings(config: dict[str, Any]) -> None:
    """Django's LOGGING_CONFIG: `LOGGING = {"format": "console" | "json", "level": "INFO"}`."""
    setup(config.get("level", "INFO"), config.get("format", "console"))
