"""Stops asking a server that fails, and asks again with one request; and the rate of requests."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Final

from functions.errors import HeldBack

log: Final = logging.getLogger("smtp_relay.delivery")

FAILURES: Final = 5
"""Failures in a row that open the circuit."""

FIRST: Final = 5.0
LONGEST: Final = 300.0
"""Seconds for which it is open: they double from the first to the longest."""

PLENTY: Final = 64
"""The room of an output without limits."""


class Breaker:
    """The circuit to one server in this process. While it is open no request is made; then one is, on
    trial, and its end decides. `name` is for the log. `longest` bounds the seconds that it is open."""

    def __init__(
        self, name: str, *, longest: float = LONGEST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._longest = longest
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._open_for = 0.0
        self._until = 0.0
        self._trial = False

    @property
    def room(self) -> int:
        """The number of requests that may begin now."""
        with self._lock:
            if not self._open_for:
                return PLENTY
            return int(not self._trial and self._clock() >= self._until)

    def enter(self) -> None:
        """Before a request. Raises HeldBack while there is no room."""
        with self._lock:
            if not self._open_for:
                return
            wait = self._until - self._clock()
            if wait > 0 or self._trial:
                reason = "its server fails: no attempt is made for now"
                raise HeldBack(reason, enhanced="4.4.1", retry_after=max(1.0, wait))
            self._trial = True

    def succeeded(self) -> None:
        """The server answered, whatever it thinks of the request."""
        with self._lock:
            was_open, self._open_for, self._failures, self._trial = self._open_for, 0.0, 0, False
        if was_open:
            log.info("the server answers again", extra={"output": self._name})

    def failed(self, asked: float | None = None) -> None:
        """The server failed; it may have asked for so many seconds without requests."""
        with self._lock:
            self._failures += 1
            if self._failures < FAILURES and not self._trial:
                return
            if self._open_for and not self._trial:
                return  # a request that began before
            doubled = min(self._longest, self._open_for * 2 or min(FIRST, self._longest))
            self._trial = False
            self._open_for = doubled
            pause = max(doubled, min(asked or 0.0, self._longest))
            self._until = self._clock() + pause
        about = {"output": self._name, "failures": self._failures, "seconds": round(pause, 1)}
        log.warning("the server fails: no attempts for a while", extra=about)

    def abandoned(self) -> None:
        """The request was not made after all."""
        with self._lock:
            self._trial = False


class RequestRate:
    """At most `most` requests a second, and as many at once as a second has; None is no limit."""

    def __init__(self, most: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._each = 0.0 if most is None else 1.0 / most
        self._burst = max(1.0, self._each)
        self._clock = clock
        self._lock = threading.Lock()
        self._next = clock()

    @property
    def room(self) -> int:
        """The number of requests that may begin now."""
        if not self._each:
            return PLENTY
        with self._lock:
            start = max(self._next, self._clock() - self._burst + self._each)
            return max(0, min(PLENTY, math.floor((self._clock() - start) / self._each + 1e-6) + 1))

    def enter(self) -> None:
        """Before a request. Raises HeldBack if it comes too early."""
        if not self._each:
            return
        with self._lock:
            now = self._clock()
            start = max(self._next, now - self._burst + self._each)
            if start > now + 1e-6 * self._each:
                raise HeldBack("waits for maxRate", enhanced="4.4.5", retry_after=start - now)
            self._next = start + self._each
