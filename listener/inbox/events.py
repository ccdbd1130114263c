"""What happens to mails, for all who watch: the page, streams, and tests that wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

MOST: Final = 1_000
"""Events that wait for one watcher; more end its watching."""

WATCHERS: Final = 400
"""Most watchers at a time."""


class Event(NamedTuple):
    """`kind` is Mailpit's: `new`, `update`, `delete`, `prune`, `truncate`, `stats`. `inbox` None concerns
    all. `mail` is the id of the mail, "" for none."""

    kind: str
    inbox: str | None
    mail: str = ""
    data: Any = None


class Hub:
    """Brings events from any thread to the watchers. Belongs to the event loop that it is made in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._watchers: set[asyncio.Queue[Event | None]] = set()
        self._due: asyncio.TimerHandle | None = None
        self._closed = False

    def publish(self, *events: Event) -> None:
        """Tell all watchers, and soon after the new totals. For any thread."""
        if not self._closed:
            self._loop.call_soon_threadsafe(self._tell, events)

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[AsyncIterator[Event]]:
        """The events from now on, until the watcher is too slow or the server ends. Raises BlockingIOError
        if there are too many watchers."""
        if self._closed or len(self._watchers) >= WATCHERS:
            raise BlockingIOError("too many watchers")
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._watchers.add(queue)
        try:
            yield _events(queue)
        finally:
            self._watchers.discard(queue)

    def close(self) -> None:
        """End all watching."""
        self._closed = True
        if self._due is not None:
            self._due.cancel()
        for queue in self._watchers:
            queue.put_nowait(None)

    def _tell(self, events: tuple[Event, ...]) -> None:
        for queue in list(self._watchers):
            if queue.qsize() + len(events) > MOST:
                queue.put_nowait(None)
                self._watchers.discard(queue)
                continue
            for event in events:
                queue.put_nowait(event)
        if self._due is None and not self._closed:
            self._due = self._loop.call_later(0.25, self._tell_totals)

    def _tell_totals(self) -> None:
        self._due = None
        for queue in self._watchers:
            queue.put_nowait(Event("stats", None))


async def _events(queue: asyncio.Queue[Event | None]) -> AsyncIterator[Event]:
    while (event := await queue.get()) is not None:
        yield event
