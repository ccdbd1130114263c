"""Replies that bring the page and its files."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from listener.inbox.page.files import POLICY, Page, PageFile
from listener.inbox.web.replies import not_found
from listener.inbox.web.state import mailbox_of, server_of

_FOR_EVER: Final = "private, max-age=31536000, immutable"
"""The address of a file changes with the page, so a browser keeps it."""


class PageReplies:
    """Answers from the files, which are read once."""

    def __init__(self) -> None:
        self._page = Page()

    async def first(self, request: Request) -> Response:
        """`GET /`, `/search` and `/view/{ID}`: the page, which finds out itself what to show."""
        mailbox_of(request)  # no page for an inbox that the viewer does not see
        below = request.scope["path"].removeprefix(server_of(request).options.path)
        root = "../" * (below.count("/") - 1) or "./"
        return _reply(request, self._page.first(root), "private, no-cache")

    async def file(self, request: Request) -> Response:
        """`GET /page/{version}/{name}`"""
        found = self._page.file(request.path_params["name"])
        if found is None or request.path_params["version"] != self._page.version:
            return not_found()
        return _reply(request, found, _FOR_EVER)


def _reply(request: Request, found: PageFile, caching: str) -> Response:
    tag = f'"{found.tag}"'
    headers = {"ETag": tag, "Cache-Control": caching, "Content-Security-Policy": POLICY}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)
