"""`rateLimit`: the mails that one process sends in a while."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from functions.errors import Temporary
from functions.processors.base import MIN_SECONDS_LEFT

LONGEST: Final = 2.0
"""Most seconds that a mail waits in its thread, because other outputs need threads too."""

WAITING: Final = 2
"""Most mails that wait so at a time."""


class Rate:
    """At most `limit` transactions in any `delta` seconds."""

    def __init__(
        self,
        limit: int,
        delta: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._limit = limit
        self._delta = delta
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._starts: deque[float] = deque()
        """The times of the last `limit` transactions, some of them in the future."""
        self._waiting = 0
        self._promised = 0.0

    def turn(self, seconds_left: Callable[[], float]) -> None:
        """Wait for the turn of a transaction. Raises Temporary if the wait is long: the mail comes again
        when its turn may be."""
        with self._lock:
            now = self._clock()
            full = len(self._starts) >= self._limit
            start = max(now, self._starts[0] + self._delta) if full else now
            pause = start - now
            if pause > 0 and (
                pause > LONGEST or self._waiting >= WAITING or seconds_left() - pause < MIN_SECONDS_LEFT
            ):
                # Mails that come again do so one after the other, at the rate.
                self._promised = max(self._promised, start) + self._delta / self._limit
                again = self._promised - now
                raise Temporary("waiting for rateLimit", enhanced="4.4.5", retry_after=again)
            if full:
                self._starts.popleft()
            self._starts.append(start)
            self._waiting += pause > 0
        if pause > 0:
            try:
                self._sleep(pause)
            finally:
                with self._lock:
                    self._waiting -= 1
