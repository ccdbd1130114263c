"""When each unfinished mail is due again, and for how long this process has tried it."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from itertools import islice
from typing import Final

from functions.delivery.engine import State
from functions.delivery.terms import Gate, Paces
from functions.errors import HeldBack
from functions.local.messages import Progress

LEAST_ATTEMPTS: Final = 5
"""Attempts of this process before it gives a mail up, whatever age the wall clock shows."""

LEAST_SPAN: Final = 30.0
"""Least seconds that these attempts take: a clock that is wrong at a start is set within them."""

PAUSE: Final = 7_200.0
"""Seconds between two attempts after which they are counted anew, because this process was stopped
meanwhile. No server asks for so long a wait."""


class Schedule:
    """Sequence numbers by due time; `notify` is called in the event loop when one is due.

    Due times are given as Unix time and kept by the monotonic clock: an attempt that is due in a
    minute is made in a minute, even if the wall clock is set meanwhile.
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
        """The same, for a mail that is due in so many seconds, even if the wall clock is set meanwhile."""
        at = time.monotonic() + max(0.0, wait)
        self._due[seq] = at
        heapq.heappush(self._heap, (at, seq))
        if self._heap[0] == (at, seq):
            self.set_alarm()

    def pop(self) -> int | None:
        """Remove and return the mail that has been due for longest; None if none is due."""
        now = time.monotonic()
        while self._heap and self._heap[0][0] <= now:
            at, seq = heapq.heappop(self._heap)
            if self._due.get(seq) == at:
                del self._due[seq]
                return seq
        return None

    def set_alarm(self) -> None:
        """Call `notify` when the next mail is due."""
        self.cancel()
        if self._heap:
            wait = max(0.005, self._heap[0][0] - time.monotonic())
            self._alarm = asyncio.get_running_loop().call_later(wait, self._notify)

    def cancel(self) -> None:
        """Do not call `notify`."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None


class HeldMails:
    """Mails that wait until an output takes more, because its limit is reached or its server is down. They
    are not tried meanwhile, so thousands of them cost nothing. In their order, with the output's key; all
    methods belong to the event loop."""

    def __init__(self) -> None:
        self._waiting: dict[Gate, dict[int, str]] = {}

    def note(self, step: Progress) -> None:
        """Remember the mail of a run that found no room at an output."""
        for outcome in step.outcomes:
            output = outcome.task.output
            if outcome.state is State.RETRY and isinstance(outcome.fault, HeldBack) and output is not None:
                self._waiting.setdefault(output.gate, {})[step.seq] = outcome.task.key

    def wake(self, paces: Paces, schedule: Schedule, *, every: bool = False) -> None:
        """Make the mails due that find room now, or `every` one because the outputs were replaced."""
        for gate, mails in list(self._waiting.items()):
            for seq in list(islice(mails, len(mails) if every else gate.room)):
                paces.forget(seq, mails.pop(seq))
                schedule.add_in(seq, 0.0)
            if not mails:
                del self._waiting[gate]


class Trials:
    """The attempts of this process, by its monotonic clock: in a folder, the second source beside the
    wall clock for how long a mail was tried."""

    def __init__(self) -> None:
        # Attempts of each mail, and the times when the first and the last of them failed.
        self._tried: dict[int, tuple[int, float, float]] = {}
        # From the wall clock at the start on, this process measures the time itself.
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
        """True if an attempt now is one of at least LEAST_ATTEMPTS that took so many seconds. If the
        mail was received longer ago by this process's own time, too, LEAST_SPAN and the longest wait
        between two attempts are enough. `received` is Unix time."""
        now = time.monotonic()
        attempts, first, last = self._tried.get(seq) or (0, now, now)
        if attempts + 1 < LEAST_ATTEMPTS or now - last >= PAUSE:
            return False
        old = self._started + now - received > seconds
        return now - first > (min(seconds, max(LEAST_SPAN, longest)) if old else seconds)


class LocalWitness:
    """`functions.delivery.engine.Witness` of one mail: made for each attempt, because it is rarely
    asked."""

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
