"""Adds up the backlogs of several parts of a local spool. A server with fewer workers than before
delivers the parts of the missing ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from functions.delivery.events import Observer

Held = tuple[float | None, int, int]
"""Unix time of the oldest unfinished mail, unfinished mails, dead records."""


class Backlogs:
    """Adds up the figures of the parts of one process."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._held: dict[PartObserver, Held] = {}

    def part(self) -> PartObserver:
        """Returns an observer for one more part."""
        return PartObserver(self, self._observer)

    def tell(self, part: PartObserver, held: Held) -> None:
        """A part was counted."""
        self._held[part] = held
        every = self._held.values()
        oldest = min((one[0] for one in every if one[0] is not None), default=None)
        self._observer.backlog(oldest, sum(one[1] for one in every), sum(one[2] for one in every))


class PartObserver:
    """`functions.delivery.events.Observer` for one part: it passes on every event except the backlog."""

    def __init__(self, all_parts: Backlogs, observer: Observer) -> None:
        self._all_parts = all_parts
        self.output_done = observer.output_done
        self.retry = observer.retry
        self.dead_letter = observer.dead_letter
        self.in_doubt = observer.in_doubt
        self.spool_stored = observer.spool_stored
        self.spool_error = observer.spool_error

    def backlog(self, oldest: float | None, unfinished: int, dead: int) -> None:
        """The figures of this part."""
        self._all_parts.tell(self, (oldest, unfinished, dead))
