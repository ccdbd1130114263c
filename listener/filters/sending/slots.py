"""The memory of counts: a slot for each limit of each user, with a ring of counts, one for each part of its
window.

`listener.filters.sending.counts` orders the processes that use it.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Sequence
from typing import Final, NamedTuple

from listener.filters.sending.clock import Clock, offset

PARTS: Final = 128
"""Counts of one window."""

SLOTS: Final = 32_768
"""Most limits of users that count at a time."""

RING: Final = PARTS + 1
_PROBES: Final = 256
_MAGIC: Final = 0x736D_7470_0001

# Words of the memory's head and of a slot, 8 bytes each.
_FORMAT, _DIRTY, _OFFSET, _BOOT, _LAST_TIME, _LAST_WALL, _UNDO = range(7)
_HEAD: Final = 8
KEY, LAST, TOTAL, LENGTH, MOST, WARNED, _LABELLED = range(7)
_LABEL: Final = 8
_LABEL_BYTES: Final = 256
_COUNTS: Final = _LABEL + _LABEL_BYTES // 8
_WIDTH: Final = _COUNTS + (RING + 1) // 2
_UNDOS: Final = _HEAD + SLOTS * _WIDTH
_MOST_UNDOS: Final = 32
AHEAD: Final = _UNDOS + 2 * _MOST_UNDOS
"""The word behind the slots, where processes note what they count ahead."""

Buckets = tuple[int, ...]
"""For each window the number of the part in which recipients were counted."""


class StoreFault(Exception):
    """Recipients cannot be counted now."""


class Window(NamedTuple):
    """One limit of one user. `key` is its number in the memory, `length` nanoseconds."""

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


class Taken(NamedTuple):
    """Recipients are counted: where; `share`, the used part of the fullest limit; and the places of
    limits about which to warn now."""

    buckets: Buckets
    share: float
    warn: tuple[int, ...] = ()


class Slots:
    """The memory. Only a process that holds the lock may call; `words` are read at the place that `slot`
    returns."""

    def __init__(self, memory: mmap.mmap, clock: Clock) -> None:
        self._map = memory
        self._clock = clock
        self.steady = clock.steady
        self.words = memoryview(memory).cast("q")
        self._counts = memoryview(memory).cast("I")
        self._places: dict[int, int] = {}

    def begin(self) -> None:
        """Take the memory up as another process, or another start of the machine, left it."""
        words = self.words
        if not words[_FORMAT]:
            words[_FORMAT] = _MAGIC  # new: no page but the first is touched
        elif words[_FORMAT] != _MAGIC:
            self._map[: 8 * _HEAD] = bytes(8 * _HEAD)
            for base in self.places():
                words[base + KEY] = 0
            self._forget_ahead()
            words[_FORMAT] = _MAGIC
        before, boot = words[_OFFSET], self._clock.boot()
        if words[_BOOT] != boot:
            words[_UNDO] = 0
        self.repair()
        words[_OFFSET] = offset(
            self._clock, boot=words[_BOOT], old=before, last=words[_LAST_TIME], wall=words[_LAST_WALL]
        )
        now = self.time()
        if words[_BOOT] and (words[_OFFSET] != before or words[_BOOT] != boot):
            self._forget_ahead()
            self._audit(now)
        words[_BOOT] = boot

    def repair(self) -> None:
        """Undo the change, and add the slot up again, at which a process was when it died: the parts of its
        ring stand."""
        words = self.words
        if words[_UNDO]:
            for at in range(_UNDOS, _UNDOS + 2 * words[_UNDO], 2):
                words[words[at]] = words[at + 1]
            words[_UNDO] = 0
        base = words[_DIRTY]
        if base:
            words[base + TOTAL] = self.added_up(base)
            words[_DIRTY] = 0

    def change(self, cells: Sequence[tuple[int, int]], number: int, more: Sequence[tuple[int, int]]) -> None:
        """Add to parts of slots, and set `more` words, each given by its place: all or nothing, also if the
        process dies."""
        words, counts = self.words, self._counts
        rings = [2 * (base + _COUNTS) + bucket % RING for base, bucket in cells]
        changed = [one // 2 for one in rings] + [base + TOTAL for base, _ in cells] + [at for at, _ in more]
        for at, place in zip(range(_UNDOS, AHEAD, 2), changed, strict=False):
            words[at], words[at + 1] = place, words[place]
        words[_UNDO] = len(changed)
        for one, (base, _) in zip(rings, cells, strict=True):
            counts[one] += number
            words[base + TOTAL] += number
        for place, value in more:
            words[place] = value
        words[_UNDO] = 0

    @property
    def present(self) -> int:
        """The time now, without the lock."""
        return self.steady() + self.words[_OFFSET]

    @property
    def offset(self) -> int:
        """The nanoseconds between the time and the steady clock."""
        return self.words[_OFFSET]

    @property
    def booted(self) -> bool:
        """True if the start of the machine has a number."""
        return self.words[_BOOT] != 0

    def time(self) -> int:
        """The time now, which never goes back."""
        words = self.words
        now = self.steady() + words[_OFFSET]
        if now < words[_LAST_TIME]:
            return words[_LAST_TIME]
        words[_LAST_TIME] = now
        words[_LAST_WALL] = self._clock.wall()
        return now

    def places(self) -> list[int]:
        """The slots in use."""
        words = self.words
        return [base for base in range(_HEAD, _HEAD + SLOTS * _WIDTH, _WIDTH) if words[base + KEY]]

    def slot(self, window: Window, now: int) -> int:
        """The place of a window's slot, which is made if it is missing; its ring is that of now. Raises
        StoreFault."""
        words, key = self.words, window.key
        base = self._places.get(key, 0)
        if not base or words[base + KEY] != key:
            base = self._find(window, now)
            if len(self._places) >= SLOTS:
                self._places.clear()
            self._places[key] = base
        self.advance(base, now)
        return base

    def _find(self, window: Window, now: int) -> int:
        words, free = self.words, 0
        for step in range(_PROBES):
            base = _HEAD + (window.key + step) % SLOTS * _WIDTH
            there = words[base + KEY]
            if there == window.key and words[base + LENGTH] == window.length:
                return base
            if not free and (not there or there == window.key or self._ended(base, now)):
                free = base
            if not there:
                break
        if not free:
            raise StoreFault(f"more than {SLOTS} limits of users count at a time")
        self.clear(free)
        words[free + LENGTH] = window.length
        words[free + LAST] = now * PARTS // window.length
        words[free + _LABELLED] = len(window.label)
        at = 8 * (free + _LABEL)
        self._map[at : at + len(window.label)] = window.label
        words[free + KEY] = window.key
        return free

    def _ended(self, base: int, now: int) -> bool:
        words = self.words
        return now * PARTS // words[base + LENGTH] - words[base + LAST] >= RING

    def label(self, base: int) -> tuple[str, ...]:
        """The words that people read about a slot."""
        at = 8 * (base + _LABEL)
        text = bytes(self._map[at : at + self.words[base + _LABELLED]])
        return tuple(text.decode("utf-8", "replace").split("\0"))

    def add(self, base: int, bucket: int, number: int) -> None:
        """Add to a part of a slot's ring, or take away."""
        words = self.words
        words[_DIRTY] = base
        self._counts[2 * (base + _COUNTS) + bucket % RING] += number
        words[base + TOTAL] += number
        words[_DIRTY] = 0

    def counted(self, base: int, bucket: int) -> int:
        """The count of a part, 0 for one that the ring does not have any more."""
        if self.words[base + LAST] - bucket >= RING:
            return 0
        return self._counts[2 * (base + _COUNTS) + bucket % RING]

    def added_up(self, base: int) -> int:
        """The sum of a slot's ring."""
        at = 2 * (base + _COUNTS)
        return sum(self._counts[at : at + RING])

    def clear(self, base: int) -> None:
        """Empty a slot."""
        self.words[_DIRTY] = base
        at = 8 * (base + _COUNTS)
        self._map[at : at + 4 * RING] = bytes(4 * RING)
        self.words[base + TOTAL] = self.words[base + WARNED] = 0
        self.words[_DIRTY] = 0

    def advance(self, base: int, now: int) -> None:
        """Empty the parts of a slot's ring that are used again."""
        words = self.words
        last, bucket = words[base + LAST], now * PARTS // words[base + LENGTH]
        if bucket <= last:
            return
        if not words[base + TOTAL]:
            words[base + LAST] = bucket
            return
        counts, start = self._counts, 2 * (base + _COUNTS)
        words[_DIRTY] = base
        gone = 0
        for one in range(max(last + 1, bucket - RING + 1), bucket + 1):
            at = start + one % RING
            gone += counts[at]
            counts[at] = 0
        words[base + TOTAL] -= gone
        words[base + LAST] = bucket
        words[_DIRTY] = 0

    def _forget_ahead(self) -> None:
        """Forget what processes counted ahead: it stays counted."""
        at = 8 * AHEAD
        self._map[at:] = bytes(len(self._map) - at)

    def _audit(self, now: int) -> None:
        """Add every slot up again, because after a power failure some of its bytes may be old ones."""
        words = self.words
        for base in self.places():
            words[base + LENGTH] = max(1, words[base + LENGTH])
            words[base + LAST] = min(words[base + LAST], now * PARTS // words[base + LENGTH])
            words[base + TOTAL] = self.added_up(base)
            words[base + _LABELLED] = min(max(0, words[base + _LABELLED]), _LABEL_BYTES)
