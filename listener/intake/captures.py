"""The arriving mails of one process, and their common limits of memory and disk space."""

from __future__ import annotations

import errno
import logging
import os
from collections import deque
from pathlib import Path
from typing import Final

from listener.api.decision import Reply

log = logging.getLogger("smtp_relay.smtp")

MEMORY: Final = 33_554_432
"""Bytes, the default of `maxCaptureMemory`."""

SPACE: Final = 4_294_967_296
"""Bytes, the default of `maxCaptureSpace`."""

SPARE: Final = 8
"""One search frees this fraction (as its denominator) of a limit, because each search costs time."""


WINDOW: Final = 60.0
"""Seconds that `minDataRate` looks back."""

STEP: Final = 5.0
"""Seconds between two marks of a mail's rate."""


class DataRate:
    """The bytes of one mail over time. `began` is the event loop's time of DATA's 354; `mark` is called
    each second or so."""

    __slots__ = ("_began", "_marks")

    def __init__(self, began: float) -> None:
        self._began = began
        self._marks: deque[tuple[float, int]] = deque([(began, 0)], maxlen=int(WINDOW / STEP) + 1)

    def mark(self, now: float, size: int) -> None:
        """The mail has this many bytes now."""
        if now - self._marks[-1][0] >= STEP:
            self._marks.append((now, size))

    def too_slow(self, now: float, size: int, *, least: int, grace: float) -> bool:
        """Whether fewer than `least` bytes a second came within the last WINDOW. The first `grace` seconds
        of a mail are not counted."""
        counted = min(now - self._began - grace, WINDOW)
        return counted > 0 and size - self._marks[0][1] < counted * least

    def pace(self, now: float, size: int) -> float:
        """Bytes a second that came lately, within 5 to 10 seconds."""
        for at, before in reversed(self._marks):
            if now - at >= STEP:
                return (size - before) / (now - at)
        return size / max(1.0, now - self._began)


class ArrivingMail:
    """The memory and disk space of one arriving mail, as `Captures` counts them."""

    __slots__ = ("crlf", "ended", "failure", "finished", "kept", "memory", "rate", "size", "space")

    def __init__(self, *, crlf: bool = False) -> None:
        self.crlf = crlf
        """True if its lines are known to end in CRLF, and to hold no other CR or LF."""
        self.size = 0
        """Size of the received mail in bytes."""
        self.memory = 0
        """Bytes of it in memory."""
        self.space = 0
        """Bytes of it on the disk."""
        self.kept = 0
        """Bytes of it that stay in memory until it is answered."""
        self.rate: DataRate | None = None
        """Its rate; None in its first second."""
        self.failure: Reply | None = None
        self.finished = False
        self.ended = False
        """True if it was given up for others: its connection may end."""

    def measured(self, began: float) -> DataRate:
        """Its rate, measured from the first call on; `began` is the loop's time of DATA's 354."""
        if self.rate is None:
            self.rate = DataRate(began)
        return self.rate

    def pace(self, now: float) -> float:
        """The recent rate, in bytes a second."""
        return float(self.size) if self.rate is None else self.rate.pace(now, self.size)

    def leave_memory(self) -> None:
        """Move the bytes in memory to the disk, as far as possible."""
        raise NotImplementedError

    def give_up(self) -> None:
        """Give the mail up because room is short: free its memory and disk space."""
        raise NotImplementedError


class Captures:
    """The arriving mails of one process. `folder` is for mails that are too large for memory.

    Above `max_memory` the largest mails move to the folder; above `max_space` the slowest are given
    up. The limits may be changed at any time. `now` is the event loop's time, refreshed each second.
    """

    def __init__(self, folder: Path, *, max_memory: int = MEMORY, max_space: int = SPACE) -> None:
        self.folder = folder
        self.max_memory = max_memory
        self.max_space = max_space
        self.memory = 0
        self.space = 0
        self._kept = 0
        self.now = 0.0
        self._arriving: set[ArrivingMail] = set()

    def enter(self, capture: ArrivingMail) -> None:
        """A mail begins to arrive."""
        self._arriving.add(capture)

    def leave(self, capture: ArrivingMail) -> None:
        """A mail is stored or given up; safe to call more than once."""
        self._arriving.discard(capture)
        self.memory -= capture.memory
        self.space -= capture.space
        self._kept -= capture.kept
        capture.memory = capture.space = capture.kept = 0

    def keep(self, capture: ArrivingMail, count: int, more: int) -> bool:
        """True if so many bytes of a complete mail may stay in memory until it is answered; `more` are held
        from now on. Complete mails get half of the memory, because arriving mails need the rest."""
        if self._kept + count > self.max_memory // 2:
            return False
        capture.kept = count
        self._kept += count
        self.hold(capture, more)
        return True

    def hold(self, capture: ArrivingMail, count: int) -> None:
        """So many bytes more (or less) of a mail are in memory."""
        capture.memory += count
        self.memory += count
        if count > 0 and self.memory > self.max_memory:
            goal = self.max_memory - self.max_memory // SPARE
            for largest in sorted(self._arriving, key=lambda one: one.memory, reverse=True):
                if self.memory <= goal:
                    break
                largest.leave_memory()

    def write(self, capture: ArrivingMail, count: int) -> None:
        """So many bytes more (or less) of a mail are about to be on the disk. May end any mail."""
        capture.space += count
        self.space += count
        if count > 0 and self.space > self.max_space:
            self.make_room(self.space - self.max_space + self.max_space // SPARE)

    def write_to(self, fd: int, data: bytes, capture: ArrivingMail) -> bool:
        """Write all of a mail's data; False if that fails, or if the mail was given up. If the disk is
        full, slower mails are given up."""
        left: bytes | memoryview = data
        while left and capture.failure is None:
            try:
                left = memoryview(left)[os.write(fd, left) :]
            except OSError as error:
                if error.errno != errno.ENOSPC or not self.make_room(len(left)):
                    return False
        return capture.failure is None

    def make_room(self, count: int) -> bool:
        """Give up the slowest mails until so many bytes of the disk are free; True if they are."""
        goal, ended = self.space - count, 0
        those = [one for one in self._arriving if one.space and one.failure is None and not one.finished]
        for slowest in sorted(those, key=lambda one: one.pace(self.now)):
            if self.space <= goal:
                break
            slowest.give_up()
            ended += 1
        if ended:
            log.warning(
                "ended the slowest mails that arrive, because the disk has no room", extra={"mails": ended}
            )
        return self.space <= goal
