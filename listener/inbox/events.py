"""What happens to mails, for all who watch: the page, streams, and tests that wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
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


class _Watcher:
    """One watcher, who is told of the inboxes that `sees` is true for: neither the number nor the time of
    its events depends on others."""

    def __init__(self, sees: Callable[[str], bool]) -> None:
        self.sees = sees
        self.queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self.due: asyncio.TimerHandle | None = None

    def tell(self, events: Iterable[Event]) -> bool:
        """Pass on what the watcher sees, and soon after the new totals; False if it is too slow."""
        seen = [event for event in events if event.inbox is None or self.sees(event.inbox)]
        if self.queue.qsize() + len(seen) > MOST:
            self.end()
            return False
        for event in seen:
            self.queue.put_nowait(event)
        if seen and self.due is None:
            self.due = asyncio.get_running_loop().call_later(0.25, self._tell_totals)
        return True

    def end(self) -> None:
        """No event follows."""
        if self.due is not None:
            self.due.cancel()
        self.queue.put_nowait(None)

    def _tell_totals(self) -> None:
        self.due = None
        self.queue.put_nowait(Event("stats", None))


class Hub:
    """Brings events from any thread to the watchers. Belongs to the event loop that it is made in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._watchers: set[_Watcher] = set()
        self._closed = False

    def publish(self, *events: Event) -> None:
        """Tell all watchers, and soon after the new totals. For any thread."""
        if not self._closed:
            self._loop.call_soon_threadsafe(self._tell, events)

    @asynccontextmanager
    async def watch(self, sees: Callable[[str], bool]) -> AsyncIterator[AsyncIterator[Event]]:
        """The events from now on of the inboxes that `sees` is true for, until the watcher is too slow or
        the server ends. Raises BlockingIOError if there are too many watchers."""
        if self._closed or len(self._watchers) >= WATCHERS:
            raise BlockingIOError("too many watchers")
        watcher = _Watcher(sees)
        self._watchers.add(watcher)
        try:
            yield _events(watcher.queue)
        finally:
            self._watchers.discard(watcher)
            watcher.end()

    def close(self) -> None:
        """End all watching."""
        self._closed = True
        for watcher in self._watchers:
            watcher.end()

    def _tell(self, events: tuple[Event, ...]) -> None:
        self._watchers = {one for one in self._watchers if one.tell(events)}


async def _events(queue: asyncio.Queue[Event | None]) -> AsyncIterator[Event]:
    while (event := await queue.get()) is not None:
        yield event
