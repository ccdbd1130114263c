"""Adds up the backlogs of several parts of a local spool. A server with fewer workers than before
delivers the parts of the missing ones."""

from __future__ import annotations

import time

from functions.delivery.events import DeliveryEvents

Held = tuple[float | None, int, int]
"""Unix time of receipt of the oldest unfinished mail, unfinished mails, dead records."""


class Backlogs:
    """Adds up the figures of the parts of one process."""

    def __init__(self, observer: DeliveryEvents) -> None:
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
        age = None if oldest is None else time.time() - oldest
        self._observer.backlog(age, sum(one[1] for one in every), sum(one[2] for one in every))


class PartObserver(DeliveryEvents):
    """The observer of one part: it passes on every event except the backlog."""

    def __init__(self, all_parts: Backlogs, observer: DeliveryEvents) -> None:
        self._all_parts = all_parts
        names = [name for name in vars(DeliveryEvents) if name[0] != "_" and name != "backlog"]
        vars(self).update({name: getattr(observer, name) for name in names})

    def backlog(self, oldest: float | None, unfinished: int, dead: int) -> None:
        came = None if oldest is None else time.time() - oldest
        self._all_parts.tell(self, (came, unfinished, dead))
