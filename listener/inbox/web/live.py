"""Events over WebSocket and as server-sent events, and waiting for a mail."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Final, TypeVar

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from listener.inbox.events import Event, Watcher
from listener.inbox.mailbox import Mailbox
from listener.inbox.query import Search, date_of, search_of
from listener.inbox.web.replies import as_json, refused
from listener.inbox.web.state import InboxServer, NotSeen, mailbox_of, server_of

T = TypeVar("T")

_LONGEST: Final = 300.0
_LOOK: Final = 10.0
"""Seconds that the first look of a wait may take on a busy server."""

_BEAT: Final = 15.0
"""Seconds between two signs of life of a stream, because proxies cut silent ones."""


async def websocket(socket: WebSocket) -> None:
    """`/api/events`, with Mailpit's events."""
    try:
        server, mailbox = server_of(socket), mailbox_of(socket)
    except NotSeen:
        await socket.close(4004)
        return
    await socket.accept()
    with contextlib.suppress(WebSocketDisconnect, RuntimeError, BlockingIOError):
        with server.hub.watch(mailbox.sees) as watcher:
            reader = asyncio.ensure_future(_until_closed(socket))
            sender = asyncio.ensure_future(_send_all(socket, server, mailbox, watcher))
            try:
                await asyncio.wait({reader, sender}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (reader, sender):
                    task.cancel()
                await asyncio.gather(reader, sender, return_exceptions=True)
        await socket.close()


async def _until_closed(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _send_all(socket: WebSocket, server: InboxServer, mailbox: Mailbox, watcher: Watcher) -> None:
    await socket.send_text(json.dumps(await _message(server, mailbox, Event("stats", None))))
    while events := await watcher.next():
        for event in events:
            if (found := await _message(server, mailbox, event)) is not None:
                await socket.send_text(json.dumps(found))


async def stream(request: Request) -> Response:
    """`GET /api/v1/stream`: the same events as server-sent events. A client that comes back and missed some
    is told `prune` first: it has to read the list again."""
    server, mailbox = server_of(request), mailbox_of(request)
    last = request.headers.get("last-event-id", "")

    async def events() -> AsyncIterator[str]:
        with contextlib.suppress(BlockingIOError), server.hub.watch(mailbox.sees) as watcher:
            here = f"{watcher.run}-{watcher.place}"
            missed = "event: prune\ndata: null\n" if last not in ("", here) else ""
            # A page that reads this is told of all that happens from now on.
            yield f"retry: 500\n: the events of the inbox\n\n{missed}id: {here}\n\n"
            while True:
                try:
                    coming = await watcher.next(_BEAT)
                except TimeoutError:
                    yield ": here\n\n"
                    continue
                if not coming:
                    return
                for event in coming:
                    if (found := await _message(server, mailbox, event)) is not None:
                        told = f"event: {found['Type']}\ndata: {json.dumps(found['Data'])}\n"
                        yield f"{told}id: {watcher.run}-{event.place}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def wait(request: Request) -> Response:
    """`GET /api/v1/wait`: the first mail of a search since a moment, or 408 after `timeout` seconds."""
    server, mailbox = server_of(request), mailbox_of(request)
    zone = request.query_params.get("tz", "")
    search = search_of(request.query_params.get("query", ""), zone)
    if search.ignored:
        return refused(f"the search has a term that means nothing: {search.ignored[0]}")
    since = 0
    if text := request.query_params.get("since", ""):
        moment = date_of(text, zone)
        if moment is None:
            return refused(f"since: {text[:100]!r} is neither a date nor Unix seconds or milliseconds")
        since = moment
    try:
        timeout = float(request.query_params.get("timeout", "10"))
    except ValueError:
        timeout = -1
    if not 0 <= timeout <= _LONGEST:
        return refused(f"timeout: give seconds, at most {_LONGEST:.0f}")
    try:
        return as_json(await _first(server, mailbox, search, since, timeout))
    except TimeoutError:
        return refused(f"no such mail within {timeout:g} seconds", 408)
    except BlockingIOError as error:
        return refused(str(error), 503)


async def _first(
    server: InboxServer, mailbox: Mailbox, search: Search, since: int, timeout: float
) -> dict[str, Any]:
    """The first mail of a search. Raises TimeoutError, and BlockingIOError when the server ends."""
    end = time.monotonic() + timeout
    with server.hub.watch(mailbox.sees) as watcher:
        # At least one look is made, so that 408 is true.
        row = await _within(max(timeout, _LOOK), server.watch(mailbox.oldest, search, since))
        while row is None:
            events = await watcher.next(max(end - time.monotonic(), 0))
            if not events:
                raise BlockingIOError("the server ends")
            # While a look waits for its turn, more events come, and the next look is one for all of them.
            ids = {event.mail for event in events if event.kind in ("new", "update")}
            whole = any(event.kind == "prune" for event in events)
            if ids or whole:
                look = server.watch(mailbox.oldest, search, since, None if whole else ids)
                row = await _within(end - time.monotonic(), look)
        return (await server.run(mailbox.summaries, [row]))[0]


async def _within(seconds: float, work: Awaitable[T]) -> T:
    async with asyncio.timeout(max(seconds, 0)):
        return await work


async def _message(server: InboxServer, mailbox: Mailbox, event: Event) -> dict[str, Any] | None:
    """What a viewer is told of an event; None for what it does not see."""
    if event.inbox is not None and not mailbox.sees(event.inbox):
        return None
    data = event.data
    if event.kind == "stats":
        total, unread = await server.run(mailbox.totals)
        data = {"Total": total, "Unread": unread}
    elif event.kind == "new":
        row = await server.run(mailbox.find, event.mail)
        if row is None:
            return None
        data = (await server.run(mailbox.summaries, [row]))[0]
    kind = event.kind
    if kind == "truncate" and (await server.run(mailbox.totals))[0]:
        kind = "prune"  # the viewer sees other inboxes too, which still hold mail
    return {"Type": kind, "Data": data}
