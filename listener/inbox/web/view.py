"""A mail's HTML and text by themselves, for tests in a browser and for the page.

Nothing in them runs, and nothing is fetched: the policy of the reply forbids both, and images of the mail
itself are put into the HTML.
"""

from __future__ import annotations

import base64
import re
from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from listener.inbox.mailbox import Row, search_in
from listener.inbox.message import ShownMail
from listener.inbox.web.replies import SANDBOX, not_found
from listener.inbox.web.state import mailbox_of, server_of

_CID: Final = re.compile(r"(=\s*[\"']?|url\(\s*[\"']?)cid:([^\s\"'>)]{1,998})", re.IGNORECASE)
_ANCHOR: Final = re.compile(r"<a(?=\s)", re.IGNORECASE)
_MOST_IMAGE: Final = 5_242_880
_MOST_IMAGES: Final = 20_971_520
_RASTER: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


async def html(request: Request, row: Row) -> Response:
    """`GET /view/{ID}.html`"""
    embed = request.query_params.get("embed") == "1"

    def render() -> str | None:
        found = ShownMail(row)
        return None if not found.parts.html else with_images(found, found.parts.html)

    markup = await server_of(request).run(render)
    if markup is None:
        return not_found("This message does not contain a HTML part")
    if embed:
        markup = _ANCHOR.sub('<a target="_blank" rel="noreferrer noopener"', markup)
    return HTMLResponse(markup.encode("utf-8", "replace"), headers={"Content-Security-Policy": SANDBOX})


async def text(request: Request, row: Row) -> Response:
    """`GET /view/{ID}.txt`"""
    found = await server_of(request).run(lambda: ShownMail(row).parts.text or "")
    return PlainTextResponse(found.encode("utf-8", "replace"), headers={"Content-Security-Policy": SANDBOX})


async def latest(request: Request) -> Response:
    """`GET /view/latest`: the place of the newest mail, or of the newest of a search."""
    words = request.query_params.get("query", "")
    search = search_in(words, request.query_params.get("tz", "")) if words.strip() else None
    row = await server_of(request).run(mailbox_of(request).newest, search)
    root = str(request.scope.get("root_path", ""))
    return RedirectResponse(f"{root}/view/{row.id}" if row is not None else f"{root}/", 302)


def with_images(message: ShownMail, markup: str) -> str:
    """The HTML with the mail's own images in place of their ids (RFC 2392)."""
    leaves = {leaf.content_id: leaf for leaf in message.parts.leaves if leaf.content_id}
    left = _MOST_IMAGES
    urls: dict[str, str] = {}

    def replace(found: re.Match[str]) -> str:
        nonlocal left
        name = found[2]
        leaf = leaves.get(name)
        if name not in urls and leaf is not None and leaf.size <= min(_MOST_IMAGE, left):
            left -= leaf.size
            urls[name] = data_url(leaf.payload())
        elif name in urls:
            left -= len(urls[name])
        return found[1] + urls[name] if urls.get(name) and left >= 0 else found[0]

    return _CID.sub(replace, markup)


def data_url(content: bytes) -> str:
    """An image as a URL that holds it, "" if its bytes are not those of a raster image."""
    kind = next((kind for magic, kind in _RASTER if content.startswith(magic)), "")
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        kind = "image/webp"
    return f"data:{kind};base64,{base64.b64encode(content).decode()}" if kind else ""
