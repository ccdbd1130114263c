"""When which unfinished mail is due again."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable

LONGEST = 3_600.0
"""Seconds that one timer runs at most: the wall clock may be set meanwhile."""


class Schedule:
    """Sequence numbers by Unix time; `ring` is called in the event loop when one is due."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._heap: list[tuple[float, int]] = []
        self._due: dict[int, float] = {}
        self._alarm: asyncio.TimerHandle | None = None

    def __contains__(self, seq: int) -> bool:
        return seq in self._due

    def add(self, seq: int, due: float) -> None:
        """Remember a mail; a later call replaces an earlier one."""
        self._due[seq] = due
        heapq.heappush(self._heap, (due, seq))
        if self._heap[0] == (due, seq):
            self.set_alarm()

    def pop(self) -> int | None:
        """The mail that has been due for longest, taken out; None when none is."""
        now = time.time()
        while self._heap and self._heap[0][0] <= now:
            due, seq = heapq.heappop(self._heap)
            if self._due.get(seq) == due:
                del self._due[seq]
                return seq
        return None

    def set_alarm(self) -> None:
        """Ring when the next one is due."""
        self.cancel()
        if self._heap:
            wait = max(0.005, self._heap[0][0] - time.time())
            self._alarm = asyncio.get_running_loop().call_later(min(wait, LONGEST), self._ring)

    def cancel(self) -> None:
        """Do not ring."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
