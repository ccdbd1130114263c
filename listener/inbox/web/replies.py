"""Replies in Mailpit's forms."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import PlainTextResponse, Response

HIDDEN = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Fields of every reply."""

SANDBOX = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The policy of everything that is made from a mail: no script, no request to anywhere."""


def ok() -> Response:
    """The reply to a change."""
    return PlainTextResponse("ok")


def as_json(value: Any) -> Response:
    """A value, as Mailpit ends it: with a line feed."""
    return Response(json.dumps(value, ensure_ascii=True) + "\n", media_type="application/json")


def refused(reason: str, status: int = 400) -> Response:
    """A mistake of the request, as text."""
    return PlainTextResponse(reason, status)


def refused_json(reason: str, status: int = 400) -> Response:
    """The same for the paths that answer mistakes as JSON."""
    return Response(json.dumps({"Error": reason}) + "\n", status, media_type="application/json")


def not_found(reason: str = "404 page not found") -> Response:
    """There is no such mail or path."""
    return PlainTextResponse(reason, 404)
