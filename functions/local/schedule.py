"""When which unfinished mail is due again, and for how long this process has tried it."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from typing import Final

LEAST_ATTEMPTS: Final = 5
"""Attempts of this process before it gives a mail up, however old the clock says that it is."""

LEAST_SPAN: Final = 30.0
"""Seconds that these attempts take at least: a clock that is wrong at a start is set within them."""

PAUSE: Final = 7_200.0
"""Seconds between two attempts after which they are counted anew: this process was stopped meanwhile. No
server asks for so long a wait."""


class Schedule:
    """Sequence numbers by the time they are due; `notify` is called in the event loop when one is.

    Due times are given as Unix time and kept by the monotonic clock: an attempt that is due in a
    minute is made in a minute, whatever the wall clock is set to meanwhile.
    """

    def __init__(self, notify: Callable[[], None]) -> None:
        self._notify = notify
        self._heap: list[tuple[float, int]] = []
        self._due: dict[int, float] = {}
        self._alarm: asyncio.TimerHandle | None = None

    def __contains__(self, seq: int) -> bool:
        return seq in self._due

    def add(self, seq: int, due: float) -> None:
        """Remember a mail; a later call replaces an earlier one."""
        self.add_in(seq, due - time.time())

    def add_in(self, seq: int, wait: float) -> None:
        """The same, for a mail that is due in so many seconds, whatever the wall clock does meanwhile."""
        at = time.monotonic() + max(0.0, wait)
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
            self._alarm = asyncio.get_running_loop().call_later(wait, self._notify)

    def cancel(self) -> None:
        """Do not ring."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None


class Trials:
    """What this process itself tried, by its monotonic clock: in a folder, the witness beside the wall clock
    that a mail was tried for long enough."""

    def __init__(self) -> None:
        # Attempts of each mail, and when the first and the last of them failed.
        self._tried: dict[int, tuple[int, float, float]] = {}
        # From where the wall clock stood at the start, this process tells the time itself.
        self._started = time.time() - time.monotonic()

    def note(self, seq: int) -> None:
        """An attempt at this mail failed."""
        now = time.monotonic()
        attempts, first, last = self._tried.get(seq) or (0, now, now)
        self._tried[seq] = (attempts + 1, first, now) if now - last < PAUSE else (1, now, now)

    def forget(self, seq: int) -> None:
        """This mail is not tried any more."""
        self._tried.pop(seq, None)

    def lasted(self, seq: int, received: float, seconds: float, longest: float) -> bool:
        """Whether an attempt that is made now is one of at least LEAST_ATTEMPTS that took so many seconds; or
        as many as LEAST_SPAN and the longest wait between two attempts, where the mail was received longer
        ago by our own time, too. `received` is Unix time."""
        now = time.monotonic()
        attempts, first, last = self._tried.get(seq) or (0, now, now)
        if attempts + 1 < LEAST_ATTEMPTS or now - last >= PAUSE:
            return False
        old = self._started + now - received > seconds
        return now - first > (min(seconds, max(LEAST_SPAN, longest)) if old else seconds)


class LocalWitness:
    """`functions.delivery.engine.LocalWitness` of one mail: it is asked seldom, and made for each attempt."""

    __slots__ = ("_longest", "_received", "_seq", "_trials")

    def __init__(self, trials: Trials, seq: int, received: int, longest: float) -> None:
        self._trials = trials
        self._seq = seq
        self._received = received
        self._longest = longest

    def waited(self, seconds: float) -> bool:
        return self._trials.lasted(self._seq, self._received / 1000, seconds, self._longest)

    def older(self, seconds: float) -> bool:
        return self.waited(seconds)
