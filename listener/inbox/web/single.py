"""Requests about one mail."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterator
from io import FileIO
from typing import TypeVar
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from functions.errors import DeliveryFault
from functions.local.view.stored import open_regular
from listener.inbox.mailbox import Row
from listener.inbox.message import ShownMail, headers_of
from listener.inbox.web.replies import SANDBOX, as_json, not_found, refused
from listener.inbox.web.state import mailbox_of, row_of, server_of

T = TypeVar("T")

_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")
_RUNS = re.compile(r"html|xml|xsl|svg|script")
"""Types that a browser may run a program of."""

_UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb<>:\"|?*]"
)

Handler = Callable[[Request, Row], Awaitable[Response]]


def of_mail(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """The handler of a request about one mail, which answers 404 where there is none."""

    async def handle(request: Request) -> Response:
        row = await row_of(request)
        if row is None:
            return not_found(
                "Message not found" if request.path_params["id"] == "latest" else "404 page not found"
            )
        try:
            return await handler(request, row)
        except OSError:  # the file is gone, or is no mail any more
            return not_found()

    return handle


async def message(request: Request, row: Row) -> Response:
    """`GET /api/v1/message/{ID}`: the mail, which is read from now on."""
    server, mailbox = server_of(request), mailbox_of(request)

    def read() -> tuple[object, list[Row]]:
        tags = mailbox.summaries([row])[0]["Tags"]
        return ShownMail(row).as_json(tags), mailbox.mark([row], read=True)

    found, marked = await server.run(read)
    server.tell_marked(marked, read=True)
    return as_json(found)


async def headers(request: Request, row: Row) -> Response:
    """`GET …/headers`"""
    return as_json(await server_of(request).run(headers_of, row))


async def raw(request: Request, row: Row) -> Response:
    """`GET …/raw`: the bytes of the file."""
    file = os.fdopen(await server_of(request).run(open_regular, row.path), "rb", buffering=0)
    fields = {"Content-Length": str(os.fstat(file.fileno()).st_size), "Content-Security-Policy": SANDBOX}
    if request.query_params.get("dl") == "1":
        fields["Content-Disposition"] = f'attachment; filename="{row.id}.eml"'
    return StreamingResponse(_pieces(file), media_type="text/plain; charset=utf-8", headers=fields)


async def part(request: Request, row: Row) -> Response:
    """`GET …/part/{PartID}`: always a download."""
    leaf = await _of_message(request, row, lambda found: found.part(request.path_params["part"]))
    if leaf is None:
        return not_found()
    kind = leaf.content_type.lower()
    safe = _TYPE.fullmatch(kind) is not None and _RUNS.search(kind) is None
    name = safe_name(leaf.filename or leaf.content_id)
    plain, whole = re.sub(r"[^A-Za-z0-9._ -]", "_", name), quote(name, safe="")
    return Response(
        await server_of(request).run(leaf.payload),
        headers={
            "Content-Type": kind if safe else "application/octet-stream",
            "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{whole}",
            "Content-Security-Policy": SANDBOX,
        },
    )


def safe_name(name: str) -> str:
    """A file name without folders, and without characters that hide or turn around what it says."""
    kept = "".join("_" if _UNSAFE.match(char) else char for char in re.split(r"[/\\]", name)[-1][:1_000])
    stem, dot, ending = kept.strip(". ").rpartition(".")
    return f"{stem[:80]}{dot}{ending[:16]}" if stem else ending[:96] or "attachment"


async def links(request: Request, row: Row) -> Response:
    """`GET …/links`: the addresses that the mail links to."""
    return as_json(await _of_message(request, row, ShownMail.links))


async def codes(request: Request, row: Row) -> Response:
    """`GET …/codes`: the codes in the mail."""
    return as_json(await _of_message(request, row, ShownMail.codes))


async def deliveries(request: Request, row: Row) -> Response:
    """`GET …/deliveries`: what became of the mail at each output of its flow."""
    server = server_of(request)
    try:
        return as_json(await server.run(server.deliveries.of, row))
    except DeliveryFault as fault:
        return refused(f"the spool cannot be read: {fault.reason}", 503)


async def thumbnail(_: Request, __: Row) -> Response:
    """`GET …/part/{PartID}/thumb`: there are none."""
    return not_found()


async def check(_: Request, __: Row) -> Response:
    """`GET …/html-check`, `…/link-check` and `…/sa-check`."""
    return refused("this server asks no other server about a mail, and has no such check", 501)


async def _of_message(request: Request, row: Row, ask: Callable[[ShownMail], T]) -> T:
    return await server_of(request).run(lambda: ask(ShownMail(row)))


def _pieces(file: FileIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(262_144):
            yield piece
