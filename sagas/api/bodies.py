"""Reads JSON bodies of bounded size and depth that the database can store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from math import isfinite
from typing import IO, Any, NoReturn

from django.conf import settings
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser

from sagas.errors import InvalidInput

MAX_DEPTH = 32


class TooLarge(APIException):
    """The body is longer than the API reads."""

    status_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    default_detail = "The body is too large."
    default_code = "too-large"


class LengthRequired(APIException):
    """The body does not say how long it is."""

    status_code = HTTPStatus.LENGTH_REQUIRED
    default_detail = "Send the body with a Content-Length, not in chunks."
    default_code = "length-required"


class BoundedJSONParser(BaseParser):
    """JSON as RFC 8259 has it, no NaN, at most `DATA_UPLOAD_MAX_MEMORY_SIZE` bytes."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """The parsed body.

        Raises:
            TooLarge: it has more bytes than allowed.
            ParseError: it is not JSON.
            InvalidInput: it is nested too deeply, or holds text that cannot be stored.
        """
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 1_000_000
        declared = (parser_context or {})["request"].META.get("CONTENT_LENGTH") or 0
        raw = stream.read(limit + 1) if int(declared) <= limit else b""
        if int(declared) > limit or len(raw) > limit:
            raise TooLarge(f"The body has more than {limit} bytes.")
        try:
            parsed = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
        except RecursionError:
            raise _too_deep() from None
        except ValueError as error:
            raise ParseError(f"The body is not JSON: {error}") from None
        _check(parsed)
        return parsed


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _too_deep() -> InvalidInput:
    return InvalidInput([{"field": "", "message": f"Nested more than {MAX_DEPTH} levels deep"}])


def _check(body: Any) -> None:
    """Refuse what PostgreSQL cannot store: depth is ours to bound, NUL and lone surrogates are not text."""
    pending: list[tuple[str, int, Any]] = [("", 0, body)]
    while pending:
        path, depth, value = pending.pop()
        if depth > MAX_DEPTH:
            raise _too_deep()
        if isinstance(value, str):
            _check_text(path, value)
        elif isinstance(value, float) and not isfinite(value):
            raise InvalidInput([{"field": path, "message": "The number is too large"}])
        elif isinstance(value, dict):
            for key, item in value.items():
                _check_text(path, key)
                pending.append((f"{path}.{key}" if path else key, depth + 1, item))
        elif isinstance(value, list):
            pending += [(f"{path}.{i}" if path else str(i), depth + 1, item) for i, item in enumerate(value)]


def _check_text(path: str, text: str) -> None:
    if "\x00" in text:
        raise InvalidInput([{"field": path, "message": "Text may not contain the character NUL"}])
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidInput([{"field": path, "message": "Text may not contain half a surrogate pair"}])
