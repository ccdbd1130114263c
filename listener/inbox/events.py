"""What happens to mails, for all who watch: the page, streams, and tests that wait."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

MOST: Final = 1_000
"""Events that wait for one watcher; of more, it is told only to read the list again."""

WATCHERS: Final = 400
"""Most watchers at a time."""

_SOON: Final = 0.25
"""Seconds from an event to the new totals."""


class Event(NamedTuple):
    """`kind` is Mailpit's: `new`, `update`, `delete`, `prune`, `truncate`, `stats`. `inbox` None concerns
    all. `mail` is the id of the mail, "" for none. `place` counts the events of the watcher's inboxes up to
    this one."""

    kind: str
    inbox: str | None
    mail: str = ""
    data: Any = None
    place: int = 0


class Watcher:
    """One watcher, who is told of the inboxes that `sees` is true for: neither the number nor the time of
    its events depends on others. Iteration ends when the server does. `place` is that of the last event,
    `run` names the server's run, which places are counted in."""

    def __init__(self, sees: Callable[[str], bool], place: int, run: str) -> None:
        self._sees = sees
        self.place = place
        self.run = run
        self._coming: deque[Event] = deque()
        self._happened = asyncio.Event()
        self._ended = False
        self._due: asyncio.TimerHandle | None = None

    async def next(self, timeout: float | None = None) -> list[Event]:
        """The events since the last call, as soon as there is one; an empty list when the server ends.
        Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            await self._happened.wait()
        found = list(self._coming)
        self._coming.clear()
        if not self._ended:
            self._happened.clear()
        return found

    def tell(self, events: Iterable[Event]) -> None:
        """Pass on what the watcher sees, and soon after the new totals. One that is slow is told `prune` in
        place of all that it has not taken."""
        for event in events:
            if event.inbox is None or self._sees(event.inbox):
                self.place += 1
                self._coming.append(event._replace(place=self.place))
                if self._due is None:
                    self._due = asyncio.get_running_loop().call_later(_SOON, self._tell_totals)
        if len(self._coming) > MOST:
            self._coming.clear()
            self._coming.append(Event("prune", None, place=self.place))
        if self._coming:
            self._happened.set()

    def end(self) -> None:
        """No event follows."""
        if self._due is not None:
            self._due.cancel()
        self._ended = True
        self._happened.set()

    def _tell_totals(self) -> None:
        self._due = None
        self._coming.append(Event("stats", None, place=self.place))
        self._happened.set()


class Hub:
    """Brings events from any thread to the watchers. Belongs to the event loop that it is made in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._watchers: set[Watcher] = set()
        self._counts: Counter[str | None] = Counter()
        self._run = secrets.token_hex(6)
        self._closed = False

    def publish(self, *events: Event) -> None:
        """Tell all watchers, and soon after the new totals. For any thread."""
        if not self._closed:
            self._loop.call_soon_threadsafe(self._tell, events)

    @contextmanager
    def watch(self, sees: Callable[[str], bool]) -> Iterator[Watcher]:
        """A watcher of the inboxes that `sees` is true for. Raises BlockingIOError if there are too many
        watchers, or the server ends."""
        if self._closed or len(self._watchers) >= WATCHERS:
            raise BlockingIOError("too many watchers")
        place = sum(count for inbox, count in self._counts.items() if inbox is None or sees(inbox))
        watcher = Watcher(sees, place, self._run)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
            watcher.end()

    def close(self) -> None:
        """End all watching."""
        self._closed = True
        for watcher in self._watchers:
            watcher.end()

    def _tell(self, events: tuple[Event, ...]) -> None:
        self._counts.update(event.inbox for event in events)
        for watcher in self._watchers:
            watcher.tell(events)
