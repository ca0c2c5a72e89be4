"""Metrics of a WSGI process whose application has none of its own: CPU, memory, open files."""

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import make_wsgi_app

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def metered(application: Application) -> Application:
    """`application`, and beside it `/metrics` for Prometheus."""
    metrics: Application = make_wsgi_app()

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        chosen = metrics if environ["PATH_INFO"] == "/metrics" else application
        return chosen(environ, start_response)

    return answer
