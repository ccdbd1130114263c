"""Recipients that a process counts ahead of its clients, so that most of them need no lock.

A credit is a block of recipients of one user, counted in the memory already. Its record in the memory says
how many are left; only its process spends them. A process holds a lock of the kernel while it lives, on a
byte of its own: what another one left when it died goes back, so no kill costs more than the recipients that
were given away. All credits of one limit together are at most a thousandth of it, and end with the part of
the window in which they were counted.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from listener.filters.sending.slots import (
    AHEAD,
    KEY,
    LAST,
    PARTS,
    RING,
    TOTAL,
    Buckets,
    Slots,
    Taken,
    Window,
)

OWNERS: Final = 64
"""Most processes that count ahead at a time."""

_RECORDS: Final = 256
_WIDTH: Final = 26
_LARGEST: Final = 1_000
_SHARE: Final = 1_000
_SMALLEST: Final = 2
_ASKED: Final = 4_096

# Words: a flag for each owner, then the records. A record has the number that is left and that of its windows
# (0: it is void), and for each of these the slot, the key and the part of the ring.
_CLAIMED: Final = AHEAD
_FIRST: Final = _CLAIMED + OWNERS
WORDS: Final = _FIRST + OWNERS * _RECORDS * _WIDTH
"""The end of the memory, in words."""

# A lock of an open file stays when the process closes another descriptor of it. macOS has no such locks.
_TRY: Final[int | None] = getattr(fcntl, "F_OFD_SETLK", None)
_BYTE: Final = 8 * WORDS


class Credit:
    """Recipients counted ahead: `at` is the place of their record in `words`, `cells` its first two words:
    the number that is left, and 0 if it is void. `until` is the time of the clock
    `steady` at which the part of a window ends (0 after the credit was dropped), and `taken` the answer to
    each."""

    __slots__ = ("at", "block", "cells", "steady", "taken", "until", "windows", "words")

    def __init__(
        self, slots: Slots, windows: Sequence[Window], at: int, block: int, until: int, taken: Taken
    ) -> None:
        self.words = slots.words
        self.steady = slots.steady
        self.windows = windows
        self.at = at
        self.cells = slots.words[at : at + 2]
        self.block = block
        self.until = until
        self.taken = taken


class Credits:
    """The credits of one process. Only one that holds the lock may call; `held` are the credits by the key of
    their first window."""

    def __init__(self, slots: Slots, fd: int) -> None:
        self._slots = slots
        self._fd = fd
        self._owner = -1
        self._able = _TRY is not None and slots.booted
        self._free: list[int] = []
        self._full_until = 0
        self._asked: dict[int, Buckets] = {}
        self.held: dict[int, Credit] = {}

    def grant(self, windows: Sequence[Window], bases: Sequence[int], taken: Taken) -> None:
        """Recipients were taken of windows whose slots are at `bases`: count a block ahead if there is much
        room, and they are not the first in this part of the window."""
        words, key = self._slots.words, windows[0].key
        if self._asked.get(key) != taken.buckets:
            if len(self._asked) >= _ASKED:
                self._asked.clear()
            self._asked[key] = taken.buckets
            return
        owners = sum(words[_CLAIMED:_FIRST]) + (self._owner < 0)
        block = _LARGEST
        for base, one in zip(bases, windows, strict=True):
            room = one.most - words[base + TOTAL]
            block = min(block, one.most // (_SHARE * owners), room // (4 * owners))
        if block < _SMALLEST or len(set(bases)) < len(bases) or not self._claim():
            return
        if not self._free and not self._end_old():
            return
        at = self._free.pop()
        for number, (base, one, bucket) in enumerate(zip(bases, windows, taken.buckets, strict=True)):
            place = at + 2 + 3 * number
            words[place], words[place + 1], words[place + 2] = base, one.key, bucket
        cells = list(zip(bases, taken.buckets, strict=True))
        self._slots.change(cells, block, ((at, block), (at + 1, len(windows))))
        ends = [
            -(-(bucket + 1) * one.length // PARTS) for one, bucket in zip(windows, taken.buckets, strict=True)
        ]
        until = min(ends) - self._slots.offset
        self.held[key] = Credit(self._slots, windows, at, block, until, Taken(taken.buckets, taken.share))

    def drop(self, key: int) -> None:
        """Take back the rest of the credit whose first window has that key."""
        credit = self.held.pop(key, None)
        if credit is not None:
            credit.until = 0
            self._take_back(credit.at)
            self._free.append(credit.at)

    def reclaim(self) -> int:
        """Take back the rest of processes that died; returns how many recipients."""
        words, found = self._slots.words, 0
        for place, claimed in enumerate(words[_CLAIMED:_FIRST]):
            if claimed and place != self._owner and self._lock(place, fcntl.F_WRLCK):
                found += self._abandoned(place)
                self._lock(place, fcntl.F_UNLCK)
        return found

    def unspent(self) -> dict[int, int]:
        """The recipients that all processes have left, by slot."""
        found: dict[int, int] = {}
        words = self._slots.words
        for at, base, key, bucket in self._parts():
            if words[base + KEY] == key and words[base + LAST] - bucket < RING:
                found[base] = found.get(base, 0) + words[at]
        return found

    def void(self, bases: set[int]) -> None:
        """Slots were emptied: the credits counted in them are worth nothing."""
        for at, base, _, _ in list(self._parts()):
            if base in bases:
                self._slots.words[at + 1] = 0

    def close(self) -> None:
        """Take back the rest of this process, which counts ahead no more."""
        for key in list(self.held):
            self.drop(key)
        self._able = False
        if self._owner >= 0:
            self._slots.words[_CLAIMED + self._owner] = 0
            self._lock(self._owner, fcntl.F_UNLCK)
            self._owner = -1

    # -- owners and their records --------------------------------------------------------------

    def _claim(self) -> bool:
        if self._owner >= 0 or not self._able:
            return self._able
        for place in range(OWNERS):
            if self._lock(place, fcntl.F_WRLCK):
                self._abandoned(place)
                self._slots.words[_CLAIMED + place] = 1
                self._owner = place
                self._free = list(_records(place))
                self.reclaim()
                return True
        self._able = False
        return False

    def _abandoned(self, place: int) -> int:
        found = sum(self._take_back(at) for at in _records(place))
        self._slots.words[_CLAIMED + place] = 0
        return found

    def _take_back(self, at: int) -> int:
        slots, words = self._slots, self._slots.words
        left = words[at]
        cells = []
        for place in range(at + 2, at + 2 + 3 * words[at + 1], 3):
            base, key, bucket = words[place], words[place + 1], words[place + 2]
            # A slot is another window's after its own has ended.
            if words[base + KEY] == key and slots.counted(base, bucket) >= left:
                cells.append((base, bucket))
        if words[at + 1]:
            slots.change(cells, -left, ((at, 0), (at + 1, 0)))
        return left if cells else 0

    def _end_old(self) -> bool:
        """Free the records of credits that have ended; false if there is none."""
        now = self._slots.steady()
        if now >= self._full_until:
            for key in [key for key, credit in self.held.items() if now >= credit.until]:
                self.drop(key)
            self._full_until = min((credit.until for credit in self.held.values()), default=now)
        return bool(self._free)

    def _parts(self) -> Iterator[tuple[int, int, int, int]]:
        """Of all owners' records that are not void: the place, a slot, its key and the part of its ring."""
        words = self._slots.words
        for owner, claimed in enumerate(words[_CLAIMED:_FIRST]):
            for at in _records(owner) if claimed else ():
                for place in range(at + 2, at + 2 + 3 * words[at + 1], 3):
                    yield at, words[place], words[place + 1], words[place + 2]

    def _lock(self, place: int, kind: int) -> bool:
        """Lock or unlock the byte of an owner; false if a process that lives holds it."""
        if _TRY is None:
            return False
        try:
            fcntl.fcntl(self._fd, _TRY, struct.pack("hhqqi", kind, os.SEEK_SET, _BYTE + place, 1, 0))
        except OSError:
            return False
        return True


def _records(owner: int) -> range:
    first = _FIRST + owner * _RECORDS * _WIDTH
    return range(first, first + _RECORDS * _WIDTH, _WIDTH)
