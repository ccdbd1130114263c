"""What the handlers of requests work with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import HTTPConnection

from listener.config.inbox import InboxOptions, InboxViewer, Right
from listener.filters.respond.running import RunningScript
from listener.inbox.deleting import Deleter
from listener.inbox.deliveries import Deliveries
from listener.inbox.events import Event, Hub
from listener.inbox.index import Index
from listener.inbox.mailbox import Mailbox, Row, search_in
from listener.inbox.retrying import Retrier

T = TypeVar("T")

_THREADS = 4
"""Requests that read files at a time: each may hold a mail of 64 MiB."""

_SENDERS = 8
"""Mails that the server is asked to send at a time: each waits for the answers of filters."""

_EACH = 200
"""Changes of one request that are told one by one; of more, watchers read the list again."""


class NotSeen(LookupError):
    """The viewer has no such inbox."""


@dataclass
class InboxServer:
    """One server: its index, its events, its options, the script of the SMTP side."""

    index: Index
    hub: Hub
    deleter: Deleter
    deliveries: Deliveries
    retrier: Retrier
    options: InboxOptions
    script: RunningScript
    spool: Path
    started: float = field(default_factory=time.monotonic)
    deleted: int = 0
    busy: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_THREADS))
    waits: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    senders: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_SENDERS, thread_name_prefix="inbox-send")
    )
    """Threads apart from those of `run`, so that slow filters hold up no request that reads."""

    previews: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    """Of large mails, whose HTML is read by one process at a time: those that wait for it hold no thread."""

    async def run(self, work: Callable[..., T], *values: Any, **named: Any) -> T:
        """Do work in a thread."""
        with self.index.asked():
            async with self.busy:
                return await asyncio.to_thread(work, *values, **named)

    async def watch(self, work: Callable[..., T], *values: Any) -> T:
        """Do work of a request that waits for a mail: one at a time, so that hundreds of them do not hold
        up those that ask for something."""
        async with self.waits:
            return await asyncio.to_thread(work, *values)

    def tell_deleted(self, gone: list[Row], *, whole: bool = False) -> None:
        """Mails were deleted by a request; `whole` says that it meant all."""
        self.deleted += len(gone)
        if gone and (whole or len(gone) > _EACH):
            kind = "truncate" if whole else "prune"
            self.hub.publish(*(Event(kind, inbox) for inbox in sorted({row.inbox for row in gone})))
        elif gone:
            self.hub.publish(*(Event("delete", row.inbox, row.id, {"ID": row.id}) for row in gone))

    def tell_marked(self, rows: list[Row], *, read: bool) -> None:
        """Mails were marked by a request."""
        self._tell_updated([(row, {"Read": read}) for row in rows])

    def tell_tagged(self, rows: list[Row], tags: dict[str, list[str]]) -> None:
        """Mails got other tags by a request; `tags` are those of each id."""
        self._tell_updated([(row, {"Tags": tags[row.id]}) for row in rows])

    def _tell_updated(self, changes: list[tuple[Row, dict[str, Any]]]) -> None:
        if len(changes) > _EACH:
            for name in sorted({row.inbox for row, _ in changes}):
                self.tell_pruned(name)
        elif changes:
            events = (Event("update", row.inbox, row.id, {"ID": row.id, **new}) for row, new in changes)
            self.hub.publish(*events)

    def tell_pruned(self, inbox: str) -> None:
        """Lists of an inbox have to be read again."""
        self.hub.publish(Event("prune", inbox))


def server_of(request: HTTPConnection) -> InboxServer:
    """The server that a request came to."""
    server: InboxServer = request.app.state.inbox
    return server


def viewer_of(request: HTTPConnection) -> InboxViewer | None:
    """The user of a request; None where the file names no users."""
    viewer: InboxViewer | None = request.scope.get("inbox.user")
    return viewer


def missing_right(request: HTTPConnection, right: Right) -> str:
    """Why the user of a request may not do this, "" where that is allowed."""
    viewer = viewer_of(request)
    if viewer is None or right in viewer.rights:
        return ""
    return f'this user may not {right} (the file gives the right: "rights": ["{right}"])'


def mailbox_of(request: HTTPConnection) -> Mailbox:
    """The mails that the request may see: of its user, and of the inbox in its path. Raises NotSeen."""
    viewer = viewer_of(request)
    allowed = None if viewer is None or viewer.inboxes is None else frozenset(viewer.inboxes)
    name = request.path_params.get("inbox")
    if name is None:
        return Mailbox(server_of(request).index, allowed)
    if allowed is not None and name not in allowed:
        raise NotSeen(name)
    return Mailbox(server_of(request).index, frozenset({name}))


async def row_of(request: HTTPConnection) -> Row | None:
    """The mail in the path of a request: its id, or `latest` with `?query=`."""
    mailbox, mail = mailbox_of(request), request.path_params["id"]
    if mail != "latest":
        return await server_of(request).run(mailbox.find, mail)
    text = request.query_params.get("query", "")
    search = search_in(text, request.query_params.get("tz", "")) if text.strip() else None
    return await server_of(request).run(mailbox.newest, search)
