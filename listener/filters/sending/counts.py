"""Counts of recipients in sliding windows, in a file that all processes of a server map into memory.

Each limit of each user has a slot: a ring of counts, one for each 128th of its window. The oldest one counts
until all of it is outside of the window, so a count is never below that of a log of every recipient, and a
limit is used up to 99.2 % by a sender that always waits for room. A process that dies leaves its
reservations as counts. A lock of the kernel (POSIX, released when its process dies) orders changes; a slot
that a dead process was changing is added up again. Power failure may lose the last seconds of counts.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from listener.filters.respond.memory import unnamed
from listener.filters.sending.clock import Clock, offset

FILE: Final = "sending-limits"
"""The file's name, in the folder of the spool."""

PARTS: Final = 128
"""Counts of one window."""

SLOTS: Final = 32_768
"""Most limits of users that count at a time."""

WARN: Final = 0.8
"""The share of a limit of which the operator is warned."""

_RING: Final = PARTS + 1
_PROBES: Final = 256
_MAGIC: Final = 0x736D_7470_0001

# Words of the file's head and of a slot, 8 bytes each.
_FORMAT, _DIRTY, _OFFSET, _BOOT, _LAST_TIME, _LAST_WALL = range(6)
_HEAD: Final = 8
_KEY, _LAST, _TOTAL, _LENGTH, _MOST, _WARNED, _LABELLED = range(7)
_LABEL: Final = 8
_LABEL_BYTES: Final = 256
_COUNTS: Final = _LABEL + _LABEL_BYTES // 8
_WIDTH: Final = _COUNTS + (_RING + 1) // 2
_SIZE: Final = 8 * (_HEAD + SLOTS * _WIDTH)

Buckets = tuple[int, ...]
"""For each window the number of the part in which recipients were counted."""


class StoreFault(Exception):
    """Recipients cannot be counted now."""


class Window(NamedTuple):
    """One limit of one user. `key` is its number in the file, `length` nanoseconds."""

    key: int
    length: int
    most: int
    label: bytes

    @classmethod
    def of(cls, identity: str, seconds: int, most: int, *label: str) -> Window:
        """`identity` tells it from others; `label` are words that people read."""
        number = int.from_bytes(hashlib.blake2b(identity.encode("utf-8", "replace"), digest_size=8).digest())
        text = "\0".join(label).encode("utf-8", "replace")[:_LABEL_BYTES]
        return cls(1 + (number >> 2), seconds * 1_000_000_000, most, text)


class Over(NamedTuple):
    """The limit that has no room, by its place among those asked for."""

    place: int


class Taken(NamedTuple):
    """Recipients are counted: where; `share`, the used part of the fullest limit; and the places of
    limits about which to warn now."""

    buckets: Buckets
    share: float
    warn: tuple[int, ...] = ()


class Used(NamedTuple):
    """One count as people read it."""

    label: tuple[str, ...]
    used: int
    most: int
    seconds: int


class Counts:
    """The file, open in one process. Raises StoreFault if it cannot be used. Only one thread may call."""

    def __init__(self, path: Path | None, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        try:
            self._fd = unnamed(_SIZE) if path is None else _opened(path)
            weakref.finalize(self, os.close, self._fd)
            self._map = mmap.mmap(self._fd, _SIZE)
        except OSError as error:
            raise StoreFault(f"{path}: {error.strerror or error}") from error
        self._words = memoryview(self._map).cast("q")
        self._counts = memoryview(self._map).cast("I")
        self._places: dict[int, int] = {}
        self._acquire()
        try:
            words = self._words
            if words[_FORMAT] != _MAGIC:
                self._map[: 8 * _HEAD] = bytes(8 * _HEAD)
                for slot in range(SLOTS):
                    if words[_HEAD + slot * _WIDTH + _KEY]:
                        words[_HEAD + slot * _WIDTH + _KEY] = 0
                words[_FORMAT] = _MAGIC
            self._repair()
            before, boot = words[_OFFSET], self._clock.boot()
            words[_OFFSET] = offset(
                self._clock, boot=words[_BOOT], old=before, last=words[_LAST_TIME], wall=words[_LAST_WALL]
            )
            now = self._time()
            if words[_OFFSET] != before or words[_BOOT] != boot:
                self._audit(now)
            words[_BOOT] = boot
        finally:
            self._unlock()

    def take(self, windows: Sequence[Window], number: int = 1) -> Taken | Over:
        """Count recipients if every limit has room for them. Raises StoreFault."""
        self._lock()  # without a context manager, because each recipient comes here
        try:
            return self._take(windows, number)
        finally:
            self._unlock()

    def give_back(self, windows: Sequence[Window], buckets: Buckets, number: int) -> None:
        """Take recipients out of the counts, which were counted in these parts. Raises StoreFault."""
        with self._locked():
            self._give_back(windows, buckets, number)

    def renew(self, windows: Sequence[Window], buckets: Buckets, number: int) -> Taken | Over:
        """Let recipients count from now on, and no longer from when they were counted: `Over` if they
        do not count any more, and there is no room. Raises StoreFault."""
        now = self._clock.steady() + self._words[_OFFSET]
        if all(now * PARTS // one.length == at for one, at in zip(windows, buckets, strict=True)):
            return Taken(buckets, 0.0)
        with self._locked():
            self._give_back(windows, buckets, number)
            return self._take(windows, number)

    def used(self) -> Iterator[Used]:
        """The counts that are not zero."""
        for slot in range(SLOTS):
            base = _HEAD + slot * _WIDTH
            if not self._words[base + _KEY]:
                continue
            with self._locked():
                self._advance(base, self._time())
                words = self._words
                total, most, length = words[base + _TOTAL], words[base + _MOST], words[base + _LENGTH]
                at = 8 * (base + _LABEL)
                text = bytes(self._map[at : at + words[base + _LABELLED]]).decode("utf-8", "replace")
            if total:
                yield Used(tuple(text.split("\0")), total, most, length // 1_000_000_000)

    def reset(self, user: str | None = None) -> int:
        """Forget the counts of a user, or of all; returns how many counts were not zero."""
        found = 0
        with self._locked():
            self._time()
            for slot in range(SLOTS):
                base = _HEAD + slot * _WIDTH
                words = self._words
                if not words[base + _KEY]:
                    continue
                at = 8 * (base + _LABEL)
                text = bytes(self._map[at : at + words[base + _LABELLED]]).decode("utf-8", "replace")
                if user is None or text.rpartition("\0")[2] == user:
                    self._advance(base, words[_LAST_TIME])
                    found += words[base + _TOTAL] > 0
                    self._clear(base)
        return found

    # -- under the lock ------------------------------------------------------------------------

    def _take(self, windows: Sequence[Window], number: int) -> Taken | Over:
        now = self._time()
        words, counts = self._words, self._counts
        bases = []
        for place, one in enumerate(windows):
            base = self._slot(one, now)
            self._advance(base, now)
            words[base + _MOST] = one.most
            if words[base + _TOTAL] + number > one.most:
                return Over(place)
            bases.append(base)
        share = 0.0
        warn: tuple[int, ...] = ()
        buckets = []
        for base, one in zip(bases, windows, strict=True):
            bucket = words[base + _LAST]
            words[_DIRTY] = base
            words[base + _TOTAL] += number
            counts[2 * (base + _COUNTS) + bucket % _RING] += number
            words[_DIRTY] = 0
            buckets.append(bucket)
            part = words[base + _TOTAL] / one.most
            share = max(share, part)
            if part >= WARN and (not words[base + _WARNED] or now - words[base + _WARNED] >= one.length):
                words[base + _WARNED] = now
                warn += (len(buckets) - 1,)
        return Taken(tuple(buckets), share, warn)

    def _give_back(self, windows: Sequence[Window], buckets: Buckets, number: int) -> None:
        now = self._time()
        words, counts = self._words, self._counts
        for one, bucket in zip(windows, buckets, strict=True):
            base = self._slot(one, now)
            self._advance(base, now)
            at = 2 * (base + _COUNTS) + bucket % _RING
            # Fewer are there if the counts were reset meanwhile.
            if words[base + _LAST] - bucket < _RING and counts[at] >= number:
                words[_DIRTY] = base
                counts[at] -= number
                words[base + _TOTAL] -= number
                words[_DIRTY] = 0

    def _time(self) -> int:
        """The time now, which never goes back."""
        words = self._words
        now = self._clock.steady() + words[_OFFSET]
        if now < words[_LAST_TIME]:
            return words[_LAST_TIME]
        words[_LAST_TIME] = now
        words[_LAST_WALL] = self._clock.wall()
        return now

    def _slot(self, window: Window, now: int) -> int:
        """The place of a window's slot, which is made if it is missing."""
        words, key = self._words, window.key
        base = self._places.get(key)
        if base is not None and words[base + _KEY] == key:
            return base
        free = -1
        for step in range(_PROBES):
            base = _HEAD + (key + step) % SLOTS * _WIDTH
            there = words[base + _KEY]
            if there == key:
                if words[base + _LENGTH] != window.length:
                    self._make(base, window, now)
                break
            if free < 0 and (not there or self._ended(base, now)):
                free = base
            if not there:
                base = -1
                break
        else:
            base = -1
        if base < 0:
            if free < 0:
                raise StoreFault(f"more than {SLOTS} limits of users count at a time")
            base = free
            self._make(base, window, now)
        if len(self._places) >= SLOTS:
            self._places.clear()
        self._places[key] = base
        return base

    def _ended(self, base: int, now: int) -> bool:
        words = self._words
        return now * PARTS // words[base + _LENGTH] - words[base + _LAST] >= _RING

    def _audit(self, now: int) -> None:
        """Add every slot up again, because after a power failure some of its bytes may be old ones."""
        words = self._words
        for base in range(_HEAD, _HEAD + SLOTS * _WIDTH, _WIDTH):
            if words[base + _KEY]:
                at = 2 * (base + _COUNTS)
                words[base + _LENGTH] = max(1, words[base + _LENGTH])
                words[base + _LAST] = min(words[base + _LAST], now * PARTS // words[base + _LENGTH])
                words[base + _TOTAL] = sum(self._counts[at : at + _RING])
                words[base + _LABELLED] = min(max(0, words[base + _LABELLED]), _LABEL_BYTES)

    def _make(self, base: int, window: Window, now: int) -> None:
        words = self._words
        self._clear(base)
        words[base + _LENGTH] = window.length
        words[base + _LAST] = now * PARTS // window.length
        words[base + _LABELLED] = len(window.label)
        at = 8 * (base + _LABEL)
        self._map[at : at + len(window.label)] = window.label
        words[base + _KEY] = window.key

    def _clear(self, base: int) -> None:
        self._words[_DIRTY] = base
        at = 8 * (base + _COUNTS)
        self._map[at : at + 4 * _RING] = bytes(4 * _RING)
        self._words[base + _TOTAL] = self._words[base + _WARNED] = 0
        self._words[_DIRTY] = 0

    def _advance(self, base: int, now: int) -> None:
        """Empty the parts of the ring that are used again."""
        words = self._words
        last, bucket = words[base + _LAST], now * PARTS // words[base + _LENGTH]
        if bucket <= last:
            return
        if not words[base + _TOTAL]:
            words[base + _LAST] = bucket
            return
        counts, start = self._counts, 2 * (base + _COUNTS)
        words[_DIRTY] = base
        gone = 0
        for one in range(max(last + 1, bucket - _RING + 1), bucket + 1):
            at = start + one % _RING
            gone += counts[at]
            counts[at] = 0
        words[base + _TOTAL] -= gone
        words[base + _LAST] = bucket
        words[_DIRTY] = 0

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._lock()
        try:
            yield
        finally:
            self._unlock()

    def _unlock(self) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def _lock(self) -> None:
        self._acquire()
        if self._words[_DIRTY]:
            self._repair()

    def _acquire(self) -> None:
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX)
        except OSError as error:
            raise StoreFault(f"the counts cannot be locked: {error.strerror}") from error

    def _repair(self) -> None:
        """Add the slot up again that a process was changing when it died: the parts of its ring stand."""
        base = self._words[_DIRTY]
        if base:
            at = 2 * (base + _COUNTS)
            self._words[base + _TOTAL] = sum(self._counts[at : at + _RING])
            self._words[_DIRTY] = 0


def _opened(path: Path) -> int:
    """The descriptor of the file, all of which is on the disk: a full disk ends a process that writes to a
    page that is not (SIGBUS). Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(fd).st_size < _SIZE:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(fd, 0, _SIZE)
            else:
                os.ftruncate(fd, _SIZE)
    except BaseException:
        os.close(fd)
        raise
    return fd
