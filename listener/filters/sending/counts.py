"""Counts of recipients in sliding windows, in a file that all processes of a server map into memory.

Each limit of each user has a ring of counts, one for each 128th of its window. The oldest one counts until
all of it is outside of the window, so a count is never below that of a log of every recipient, and a limit is
used up to 99.2 % by a sender that always waits for room. A process that dies leaves its reservations as
counts. A lock of the kernel (POSIX, released when its process dies) orders changes; a slot that a dead
process was changing is added up again. Power failure may lose the last seconds of counts. Of high limits a
process counts some recipients ahead (`credits`).
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from listener.filters.respond.memory import unnamed
from listener.filters.sending.clock import Clock
from listener.filters.sending.credits import WORDS, Credit, Credits
from listener.filters.sending.slots import (
    LAST,
    LENGTH,
    MOST,
    PARTS,
    TOTAL,
    WARNED,
    Buckets,
    Slots,
    StoreFault,
    Taken,
    Window,
)

FILE: Final = "sending-limits"
"""The file's name, in the folder of the spool."""

SIZE: Final = 8 * WORDS
"""Its bytes."""

WARN: Final = 0.8
"""The share of a limit of which the operator is warned."""


class Over(NamedTuple):
    """The limit that has no room, by its place among those asked for."""

    place: int


class Used(NamedTuple):
    """One count as people read it."""

    label: tuple[str, ...]
    used: int
    most: int
    seconds: int


class Counts:
    """The file, open in one process; without a path memory of this process. Raises StoreFault if it cannot be
    used. Only one thread may call."""

    def __init__(self, path: Path | None, clock: Clock | None = None) -> None:
        try:
            self._fd = unnamed(SIZE) if path is None else _opened(path)
            weakref.finalize(self, os.close, self._fd)
            self.slots = Slots(mmap.mmap(self._fd, SIZE), clock or Clock())
            fcntl.lockf(self._fd, fcntl.LOCK_EX, 1)
        except OSError as error:
            raise StoreFault(f"{path}: {error.strerror or error}") from error
        try:
            self.slots.begin()
        finally:
            self._release()
        self._credits = Credits(self.slots, self._fd)
        self._held = self._credits.held
        self._steady = self.slots.steady

    def take(self, windows: Sequence[Window], number: int = 1) -> Taken | Over:
        """Count recipients if every limit has room for them. Raises StoreFault."""
        credit = self._held.get(windows[0].key)
        if credit is not None and self._steady() < credit.until and credit.windows == windows:
            words, at = self.slots.words, credit.at
            left = words[at]
            if left >= number and words[at + 1]:
                words[at] = left - number
                return credit.taken
        with self._locked():
            self._credits.drop(windows[0].key)
            return self._take(windows, number, ahead=True)

    def credit(self, windows: Sequence[Window]) -> Credit | None:
        """What this process has counted ahead for these windows."""
        credit = self._held.get(windows[0].key)
        return credit if credit is not None and credit.windows == windows else None

    def give_back(self, windows: Sequence[Window], buckets: Buckets, number: int) -> None:
        """Take recipients out of the counts, which were counted in these parts. Raises StoreFault."""
        credit = self._held.get(windows[0].key)
        if credit is not None and credit.taken.buckets is buckets and self._steady() < credit.until:
            words, at = self.slots.words, credit.at
            left = words[at] + number
            if left <= credit.block and words[at + 1]:
                words[at] = left
                return
        with self._locked():
            self._give_back(windows, buckets, number)

    def current(self, windows: Sequence[Window], buckets: Buckets) -> bool:
        """True if these are the parts of now."""
        now = self.slots.present
        return all(now * PARTS // one.length == at for one, at in zip(windows, buckets, strict=True))

    def renew(self, windows: Sequence[Window], buckets: Buckets, number: int) -> Taken | Over:
        """Let recipients count from now on, and no longer from when they were counted: `Over` if they
        do not count any more, and there is no room. Raises StoreFault."""
        if self.current(windows, buckets):
            return Taken(buckets, 0.0)
        with self._locked():
            self._give_back(windows, buckets, number)
            return self._take(windows, number)

    def used(self) -> Iterator[Used]:
        """The counts that are not zero."""
        slots = self.slots
        with self._locked():
            unspent = self._credits.unspent()
        for base in slots.places():
            with self._locked():
                slots.advance(base, slots.time())
                total, most, length = (slots.words[base + at] for at in (TOTAL, MOST, LENGTH))
                label = slots.label(base)
            used = total - unspent.get(base, 0)
            if used > 0:
                yield Used(label, used, most, length // 1_000_000_000)

    def reset(self, user: str | None = None) -> int:
        """Forget the counts of a user, or of all; returns how many counts were not zero."""
        found, slots = 0, self.slots
        with self._locked():
            now, unspent = slots.time(), self._credits.unspent()
            bases = {one for one in slots.places() if user is None or slots.label(one)[-1] == user}
            self._credits.void(bases)
            for base in bases:
                slots.advance(base, now)
                found += slots.words[base + TOTAL] > unspent.get(base, 0)
                slots.clear(base)
        return found

    def close(self) -> None:
        """Take back what was counted ahead, because this process serves no more. Raises StoreFault."""
        with self._locked():
            self._credits.close()

    # -- under the lock ------------------------------------------------------------------------

    def _take(self, windows: Sequence[Window], number: int, *, ahead: bool = False) -> Taken | Over:
        slots, now = self.slots, self.slots.time()
        words = slots.words
        bases = []
        for place, one in enumerate(windows):
            base = slots.slot(one, now)
            words[base + MOST] = one.most
            if words[base + TOTAL] + number > one.most:
                # Processes that died may have left some.
                return self._take(windows, number) if self._credits.reclaim() else Over(place)
            bases.append(base)
        share = 0.0
        warn: tuple[int, ...] = ()
        buckets = []
        for base, one in zip(bases, windows, strict=True):
            bucket = words[base + LAST]
            slots.add(base, bucket, number)
            buckets.append(bucket)
            part = words[base + TOTAL] / one.most
            share = max(share, part)
            if part >= WARN and (not words[base + WARNED] or now - words[base + WARNED] >= one.length):
                words[base + WARNED] = now
                warn += (len(buckets) - 1,)
        taken = Taken(tuple(buckets), share, warn)
        if ahead:
            self._credits.grant(windows, bases, taken)
        return taken

    def _give_back(self, windows: Sequence[Window], buckets: Buckets, number: int) -> None:
        slots, now = self.slots, self.slots.time()
        for one, bucket in zip(windows, buckets, strict=True):
            base = slots.slot(one, now)
            # Fewer are there if the counts were reset meanwhile.
            if slots.counted(base, bucket) >= number:
                slots.add(base, bucket, -number)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._acquire()
        try:
            yield
        finally:
            self._release()

    def _acquire(self) -> None:
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX, 1)
        except OSError as error:
            raise StoreFault(f"the counts cannot be locked: {error.strerror}") from error
        self.slots.repair()

    def _release(self) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1)


def _opened(path: Path) -> int:
    """The descriptor of the file, all of which is on the disk: a full disk ends a process that writes to a
    page that is not (SIGBUS). Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(fd).st_size < SIZE:
            if sys.platform == "darwin":  # it has no such call
                os.ftruncate(fd, SIZE)
            else:
                os.posix_fallocate(fd, 0, SIZE)
    except BaseException:
        os.close(fd)
        raise
    return fd
