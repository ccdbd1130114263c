"""Orders slow password checks, so that clients that guess cannot keep out a client with the right password.

At most one check runs for each client address (IPv6: each network of 64 bits). Of the waiting addresses,
those with fewer failures go first; of the checks of one address, first attempts. Among equals the latest
goes first, because in a crowd that never ends the first in line would wait for the whole line.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from listener.api.network import network_of

PREFIX: Final = 64
"""Bits of an IPv6 address that one client is given (RFC 6177)."""

MAX_REMEMBERED: Final = 4_096
"""Most addresses, and pairs of address and user, whose failures are remembered."""

FORGOTTEN_AFTER: Final = 600.0
"""Seconds after the last failure until the failures of a key are forgotten."""


class Failures:
    """How often each key failed lately, as its power of two: 0, 1 for one, 2 for two or three …"""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._counts: dict[object, tuple[int, float]] = {}

    def add(self, key: object) -> None:
        """Count one more failure."""
        count = self._recent(key) + 1
        self._counts.pop(key, None)
        if len(self._counts) >= MAX_REMEMBERED:
            del self._counts[next(iter(self._counts))]
        self._counts[key] = count, self._clock()

    def of(self, key: object) -> int:
        """The power of two of the number of failures."""
        return self._recent(key).bit_length()

    def _recent(self, key: object) -> int:
        count, last = self._counts.get(key, (0, 0.0))
        return count if self._clock() - last < FORGOTTEN_AFTER else 0


class _Check:
    """One check that waits or runs. `attempts` is how many the connection has failed before."""

    __slots__ = ("attempts", "done", "number", "user", "work")

    def __init__(
        self,
        number: int,
        attempts: int,
        user: tuple[str, int],
        work: Callable[[], bool],
        done: asyncio.Future[bool],
    ) -> None:
        self.number = number
        self.attempts = attempts
        self.user = user
        self.work = work
        self.done = done


class CheckQueue:
    """Runs checks in `threads`, at most `most` at once. For one event loop."""

    def __init__(
        self,
        threads: Callable[[], ThreadPoolExecutor],
        most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threads = threads
        self._most = most
        self._failures = Failures(clock)
        self._waiting: dict[str, list[_Check]] = {}
        self._running: set[str] = set()
        self._served: dict[str, int] = {}
        self._number = 0

    async def run(self, ip: str, username: str, attempts: int, work: Callable[[], bool]) -> bool:
        """Run `work` in its turn, and return its outcome: True for a right password. A check that is
        cancelled while it waits never runs. Raises the errors of `work`."""
        network = network_of(ip, PREFIX)
        loop = asyncio.get_running_loop()
        self._number += 1
        # The name's hash, because a stranger chooses the name and its length.
        check = _Check(self._number, attempts, (network, hash(username)), work, loop.create_future())
        self._waiting.setdefault(network, []).append(check)
        self._start(loop)
        try:
            return await check.done
        finally:
            waiting = self._waiting.get(network, [])
            if check in waiting:
                self._remove(network, check)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        while len(self._running) < self._most:
            free = [network for network in self._waiting if network not in self._running]
            if not free:
                return
            network = min(free, key=self._rank)
            check = min(self._waiting[network], key=self._rank_within)
            self._remove(network, check)
            self._running.add(network)
            ran = loop.run_in_executor(self._threads(), check.work)
            ran.add_done_callback(lambda ran, one=check: self._ended(one, ran, loop))  # type: ignore[misc]

    def _rank(self, network: str) -> tuple[int, int, int]:
        """Addresses without failures: the latest first. The others, which wait again and again: the one
        served longest ago first."""
        failures = self._failures.of(network)
        waiting = self._waiting[network]
        order = self._served.get(network, 0) if failures else -waiting[-1].number
        return failures, min(check.attempts for check in waiting), order

    def _rank_within(self, check: _Check) -> tuple[int, int, int]:
        return check.attempts, self._failures.of(check.user), -check.number

    def _ended(self, check: _Check, ran: asyncio.Future[bool], loop: asyncio.AbstractEventLoop) -> None:
        network = check.user[0]
        self._running.discard(network)
        self._served.pop(network, None)
        if len(self._served) >= MAX_REMEMBERED:
            del self._served[next(iter(self._served))]
        self._served[network] = self._number
        fault = None if ran.cancelled() else ran.exception()
        if not ran.cancelled() and fault is None and not ran.result():
            self._failures.add(network)
            self._failures.add(check.user)
        if not check.done.done():
            if ran.cancelled():
                check.done.cancel()
            elif fault is not None:
                check.done.set_exception(fault)
            else:
                check.done.set_result(ran.result())
        self._start(loop)

    def _remove(self, network: str, check: _Check) -> None:
        waiting = self._waiting[network]
        waiting.remove(check)
        if not waiting:
            del self._waiting[network]
