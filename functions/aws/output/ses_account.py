"""The limits of an SES account: recipients a second, and whether it accepts mail
(docs/outputs/aws.md).

Most of the waiting happens in the queue, whose event source runs at most N instances at a time.
Each instance then sends at its share of the rate.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from functions.errors import Temporary
from functions.options.environment import variable
from functions.processors.base import MIN_SECONDS_LEFT

log: Final = logging.getLogger("smtp_relay.output.ses")

CONCURRENCY: Final = "SMTP_RELAY_SES_CONCURRENCY"
"""Environment variable with N, if the infrastructure knows it."""

CLOSED_FOR: Final = 900.0
"""Seconds for which SES counts as closed after a refusal that only time fixes."""

_BURST: Final = 1.0  # seconds of the rate that may be sent at once
_SLOWEST: Final = 1 / 64  # of the rate
_RECOVERY: Final = 0.02  # of the rate, for each success


def instances(rate: float, environ: Mapping[str, str]) -> int:
    """The number of instances that share the rate: N = max(2, ⌈rate × 0.25 s⌉) functions, or this process."""
    said = variable(environ, CONCURRENCY) or ""
    if said.isdecimal() and int(said) > 0:
        return int(said)
    return max(2, math.ceil(rate * 0.25)) if "AWS_LAMBDA_FUNCTION_NAME" in environ else 1


class SesClosed(Temporary):
    """The daily quota is used up, or sending is paused or suspended."""

    closed = True


class Account:
    """One account in one region, as one process may use it. `rate` is called once, at the first mail,
    and gives recipients a second; zero or a negative number is no limit."""

    def __init__(
        self,
        rate: Callable[[], float],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ask = rate
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._full: float | None = None
        self._rate = 0.0
        self._free_at = 0.0
        self._closed_until = 0.0

    @property
    def rate(self) -> float:
        """The current limit in recipients a second."""
        return self._rate

    def close(self, reason: str) -> SesClosed:
        """Stop asking for a while; returns the fault to raise."""
        self._closed_until = self._clock() + CLOSED_FOR
        log.warning("SES is closed", extra={"reason": reason, "seconds": CLOSED_FOR})
        return SesClosed(reason, enhanced="4.7.1", retry_after=CLOSED_FOR)

    def wait(self, recipients: int, seconds_left: Callable[[], float]) -> None:
        """Wait for the turn of a send to so many recipients. Raises Temporary if too little of the run
        would be left after that, SesClosed while the account accepts no mail."""
        left = self._closed_until - self._clock()
        if left > 0:
            raise SesClosed("SES accepts no mail at the moment", enhanced="4.7.1", retry_after=left)
        with self._lock:
            if self._full is None:
                self._full = self._rate = self._ask()
            if self._full <= 0:
                return
            now = self._clock()
            start = max(self._free_at, now - _BURST)
            pause = start - now
            if pause > 0 and seconds_left() - pause < MIN_SECONDS_LEFT:
                raise Temporary("waiting for SES's send rate", enhanced="4.4.5", retry_after=pause)
            self._free_at = start + recipients / self._rate
        if pause > 0:
            self._sleep(pause)

    def refused(self) -> None:
        """SES found the rate too high: halve it, and delay every send."""
        with self._lock:
            full = self._full or 1.0
            self._rate = max(full * _SLOWEST, self._rate / 2)
            pause = random.uniform(0.5, 1.5) / self._rate  # noqa: S311 - jitter
            self._free_at = max(self._free_at, self._clock() + min(pause, 10.0))

    def accepted(self) -> None:
        """A send worked: recover slowly."""
        with self._lock:
            if self._full is not None and 0 < self._rate < self._full:
                self._rate = min(self._full, self._rate + self._full * _RECOVERY)
