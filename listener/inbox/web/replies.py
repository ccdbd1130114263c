"""Replies in Mailpit's forms."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import PlainTextResponse, Response

HIDDEN = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-DNS-Prefetch-Control": "off",
    "X-Frame-Options": "SAMEORIGIN",
}
"""Fields of every reply."""

SANDBOX = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The policy of everything that is made from a mail: no script, no request to anywhere."""


def policy(*, popups: bool, images: bool) -> str:
    """That policy for HTML whose links open in a new tab, or whose images come from where the mail says."""
    allowed = "sandbox allow-popups allow-popups-to-escape-sandbox" if popups else "sandbox"
    sources = "img-src data: https: http:" if images else "img-src data:"
    return SANDBOX.replace("sandbox", allowed, 1).replace("img-src data:", sources, 1)


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
