"""A mail's HTML and text by themselves, for tests in a browser and for the page.

Nothing in them runs, and nothing is fetched: the policy of the reply forbids both, and what no policy covers
is taken out of the HTML. Images of the mail itself are put into it. The server fetches nothing either.
"""

from __future__ import annotations

import base64
from contextlib import nullcontext
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from listener.inbox.mailbox import Row, search_in
from listener.inbox.message import ShownMail
from listener.inbox.web.preview.markup import MOST_IMAGES, SHORT, TooComplex, cleaned
from listener.inbox.web.replies import not_found, policy, refused
from listener.inbox.web.state import mailbox_of, server_of

_MOST_IMAGE: Final = 5_242_880
_RASTER: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


async def html(request: Request, row: Row) -> Response:
    """`GET /view/{ID}.html`, with `?embed=1` for a frame whose links open in a new tab, and with `?images=1`
    to let the browser load the images that the mail names."""
    embed = request.query_params.get("embed") == "1"
    remote = request.query_params.get("images") == "1"

    def render() -> str | None:
        found = ShownMail(row)
        markup = found.parts.html
        return cleaned(markup, images_of(found), new_tab=embed) if markup else None

    server = server_of(request)
    try:
        async with server.previews if row.summary.get("Size", 0) > SHORT else nullcontext():
            markup = await server.run(render)
    except TooComplex as error:
        return refused(f"This message cannot be shown: {error}. Its raw form has it.", 422)
    if markup is None:
        return not_found("This message does not contain a HTML part")
    headers = {"Content-Security-Policy": policy(popups=embed, images=remote)}
    if remote:
        headers["Cross-Origin-Embedder-Policy"] = "credentialless"  # no cookie goes with an image
    return HTMLResponse(markup.encode("utf-8", "replace"), headers=headers)


async def text(request: Request, row: Row) -> Response:
    """`GET /view/{ID}.txt`"""
    found = await server_of(request).run(lambda: ShownMail(row).parts.text or "")
    return PlainTextResponse(found.encode("utf-8", "replace"))


async def latest(request: Request) -> Response:
    """`GET /view/latest`: the place of the newest mail, or of the newest of a search."""
    words = request.query_params.get("query", "")
    search = search_in(words, request.query_params.get("tz", "")) if words.strip() else None
    row = await server_of(request).run(mailbox_of(request).newest, search)
    root = quote(request.scope.get("root_path", ""))
    return RedirectResponse(f"{root}/view/{row.id}" if row is not None else f"{root}/", 302)


def images_of(message: ShownMail) -> dict[str, str]:
    """The mail's own images as data URLs, by Content-ID."""
    images: dict[str, str] = {}
    left = MOST_IMAGES
    for leaf in message.parts.leaves:
        if leaf.content_id and leaf.content_id not in images and leaf.size <= min(2 * _MOST_IMAGE, left):
            url = data_url(leaf.payload())
            if url and len(url) <= left:
                left -= len(url)
                images[leaf.content_id] = url
    return images


def data_url(content: bytes) -> str:
    """An image as a URL that holds it, "" if its bytes are not those of a raster image, or more than 5 MB."""
    kind = next((kind for magic, kind in _RASTER if content.startswith(magic)), "")
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        kind = "image/webp"
    elif content[4:12] == b"ftypavif":
        kind = "image/avif"
    if not kind or len(content) > _MOST_IMAGE:
        return ""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
