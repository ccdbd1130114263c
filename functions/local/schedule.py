"""When which unfinished mail is due again."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable


class Schedule:
    """Sequence numbers by the time they are due; `ring` is called in the event loop when one is.

    Due times are given as Unix time and kept by the monotonic clock: an attempt that is due in a
    minute is made in a minute, whatever the wall clock is set to meanwhile.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._heap: list[tuple[float, int]] = []
        self._due: dict[int, float] = {}
        self._alarm: asyncio.TimerHandle | None = None

    def __contains__(self, seq: int) -> bool:
        return seq in self._due

    def add(self, seq: int, due: float) -> None:
        """Remember a mail; a later call replaces an earlier one."""
        at = time.monotonic() + max(0.0, due - time.time())
        self._due[seq] = at
        heapq.heappush(self._heap, (at, seq))
        if self._heap[0] == (at, seq):
            self.set_alarm()

    def pop(self) -> int | None:
        """The mail that has been due for longest, taken out; None when none is."""
        now = time.monotonic()
        while self._heap and self._heap[0][0] <= now:
            at, seq = heapq.heappop(self._heap)
            if self._due.get(seq) == at:
                del self._due[seq]
                return seq
        return None

    def set_alarm(self) -> None:
        """Ring when the next one is due."""
        self.cancel()
        if self._heap:
            wait = max(0.005, self._heap[0][0] - time.monotonic())
            self._alarm = asyncio.get_running_loop().call_later(wait, self._ring)

    def cancel(self) -> None:
        """Do not ring."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
