"""Gives an endpoint's connections turns, so that the commands of one client never block the others."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Final, Protocol

SLICE: Final = 0.0005
"""Seconds for which one connection carries out commands before the event loop goes on."""

SHARE: Final = 0.002
"""Seconds of one turn of the event loop after which no further connection begins, but queues."""


class Waiting(Protocol):
    """The waiting input of one connection."""

    paused: bool

    @property
    def waiting(self) -> int: ...


class Turns:
    """Shares an event loop among the connections that have commands to execute.

    A connection begins at once and works for SLICE. If it has more to do then, it queues, as do the
    connections that begin late in a busy turn of the loop. The next turn of the loop begins with the queue:
    it serves the first connection, and others until half of SHARE is spent. New connections, single commands
    and timers come in between.
    """

    __slots__ = ("_loop", "_queue", "_renews", "_spent")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: deque[Callable[[], None]] = deque()
        self._spent = 0.0
        self._renews = False

    def work(self, stream: Waiting, carry_out: Callable[[], bool], go_on: Callable[[], None]) -> bool:
        """Call `carry_out` while input waits and it returns True. If the time ends first, queue the
        connection, call its `go_on` in its turn, and return True."""
        began = now = perf_counter()
        end = began if self._spent >= SHARE else began + SLICE
        queued = False
        while stream.waiting and not stream.paused:
            if now >= end:
                self._queue.append(go_on)
                queued = True
                break
            if not carry_out():
                break
            now = perf_counter()
        self._worked(perf_counter() - began)
        return queued

    def take(self, take: Callable[[bytes], None], data: bytes) -> bool:
        """Call `take` with the data, and count its time to this turn of the loop. False, without the call,
        if the turn has no time left for a connection that begins now."""
        if self._spent >= SHARE:
            return False
        began = perf_counter()
        take(data)
        self._spent += perf_counter() - began
        if self._spent >= SLICE and not self._renews:
            self._worked(0.0)
        return True

    def _worked(self, seconds: float) -> None:
        self._spent += seconds
        # A callback costs a turn of the loop: little work is counted to the next turn instead.
        if not self._renews and (self._queue or self._spent >= SLICE):
            self._renews = True
            self._loop.call_soon(self._renew)

    def _renew(self) -> None:
        """A new turn of the loop begins."""
        self._renews = False
        self._spent = 0.0
        try:
            for _ in range(len(self._queue)):
                self._queue.popleft()()
                if self._spent >= SHARE / 2:
                    break
        finally:
            # A fault of one connection must not leave the others in the queue.
            if self._queue:
                self._worked(0.0)
