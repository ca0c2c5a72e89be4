"""The OpenAPI document and Swagger UI."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from threading import Lock
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import condition, require_safe
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.views import SpectacularSwaggerSplitView

# Swagger UI sets styles on elements and draws its icons from data; scripts come from here alone.
DOCS_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
)


_one_at_a_time = Lock()


def document() -> bytes:
    """The OpenAPI document; definitions and URLs do not change while a process lives."""
    with _one_at_a_time:  # the generator loads its extensions lazily, which two threads must not do at once
        return _document()


@cache
def _document() -> bytes:
    generator: Any = SchemaGenerator
    return json.dumps(generator().get_schema(public=True), separators=(",", ":")).encode()


def document_tag(request: HttpRequest) -> str:
    """The ETag of the document."""
    return f'"{hashlib.sha256(document()).hexdigest()[:16]}"'


@require_safe
@condition(etag_func=document_tag)
def schema(request: HttpRequest) -> HttpResponse:
    """The OpenAPI document as JSON."""
    return HttpResponse(document(), content_type="application/vnd.oai.openapi+json")


class DocsView(SpectacularSwaggerSplitView):
    """Swagger UI, served from here, to read and to try."""

    url_name = "api-schema"
    schema = None

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        """The page runs its own scripts and nobody else's."""
        done = super().finalize_response(request, response, *args, **kwargs)
        done.headers["Content-Security-Policy"] = DOCS_POLICY
        return done
