"""The memory of `respond` that all processes of a server share: rules set at run time, and counts."""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

MOST_TEXT: Final = 131_072
"""Bytes of the rules that are set at run time."""

_SLOTS: Final = 4_096
_WIDTH: Final = 5  # key, commands that met, chances drawn, begin of the minute, commands in it
_MINUTE: Final = 60.0

_HEAD: Final = 4  # version, lengths of both texts and of the file's
_TEXTS: Final = 8 * (_HEAD + _SLOTS * _WIDTH)
_FILE: Final = _TEXTS + 2 * MOST_TEXT
_MOST_FILE: Final = 4_194_304

MATCHED: Final = 1
DRAWN: Final = 2
_SINCE: Final = 3
_IN_MINUTE: Final = 4


def unnamed(size: int) -> int:
    """The descriptor of so many zeroed bytes, of which nothing stays on disk."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("smtp-relay")
    else:  # a full disk ends a process that writes to such a page (SIGBUS)
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd


class ScriptMemory:
    """`fd` is the descriptor of the memory: children that are forked have it, others are given it. Nothing
    stays on disk, and pages without content take no room.

    Of two texts the version's parity says which counts, so a process that dies while it writes leaves
    the earlier one. A lock of the kernel (POSIX, released when its process dies) orders changes.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        weakref.finalize(self, os.close, fd)
        self._map = mmap.mmap(fd, _FILE + _MOST_FILE)
        self._head = memoryview(self._map)[: 8 * _HEAD].cast("d")
        self._counts = memoryview(self._map)[8 * _HEAD : _TEXTS].cast("d")
        self._threads = threading.Lock()

    @classmethod
    def new(cls) -> ScriptMemory:
        """The memory of a server that starts."""
        return cls(unnamed(_FILE + _MOST_FILE))

    @property
    def version(self) -> float:
        """A number that changes with the text."""
        return self._head[0]

    def text(self) -> str:
        """The text that was written last; "" before the first."""
        with self._locked():
            return self._read()

    def change(self, change: Callable[[str], str]) -> None:
        """Replace the text by one made of it, and begin to count anew. Raises ValueError for one that is
        too long, and what `change` raises; the text then stays."""
        with self._locked():
            data = change(self._read()).encode()
            if len(data) > MOST_TEXT:
                raise ValueError(f"the rules are longer than {MOST_TEXT} bytes")
            version = int(self._head[0]) + 1
            start = self._start(version)
            self._map[start : start + len(data)] = data
            self._head[1 + version % 2] = len(data)
            self._clear()
            self._head[0] = version

    def in_file(self) -> str:
        """The text about the configuration file."""
        with self._locked():
            return bytes(self._map[_FILE : _FILE + int(self._head[3])]).decode()

    def tell(self, text: str) -> None:
        """A process uses a configuration file with this text about it. Raises ValueError for one that is too
        long."""
        data = text.encode()
        if len(data) > _MOST_FILE:
            raise ValueError(f"the rules of the filters respond are longer than {_MOST_FILE} bytes")
        with self._locked():
            self._map[_FILE : _FILE + len(data)] = data
            self._head[3] = len(data)

    def count(self, rule: str, what: int) -> int:
        """Count one event of a rule (MATCHED or DRAWN); returns its number, from 1."""
        with self._locked():
            at = self._slot(rule) + what
            self._counts[at] += 1
            return int(self._counts[at])

    def count_in_minute(self, rule: str, now: float) -> int:
        """Count one command of a rule; returns its number in the minute that began with the first. `now` is
        a monotonic time, the same for all processes."""
        with self._locked():
            at, counts = self._slot(rule), self._counts
            if not counts[at + _IN_MINUTE] or now - counts[at + _SINCE] >= _MINUTE:
                counts[at + _SINCE], counts[at + _IN_MINUTE] = now, 0.0
            counts[at + _IN_MINUTE] += 1
            return int(counts[at + _IN_MINUTE])

    def _start(self, version: int) -> int:
        return _TEXTS + MOST_TEXT * (version % 2)

    def _read(self) -> str:
        version = int(self._head[0])
        start = self._start(version)
        return bytes(self._map[start : start + int(self._head[1 + version % 2])]).decode()

    def _slot(self, rule: str) -> int:
        # Whole numbers below 2^52 are exact as doubles; 0 is a free slot.
        key = float(1 + int.from_bytes(hashlib.blake2b(rule.encode(), digest_size=8).digest()) % 2**52)
        counts, first = self._counts, int(key) % _SLOTS
        for step in range(_SLOTS):
            at = (first + step) % _SLOTS * _WIDTH
            if counts[at] == key:
                return at
            if not counts[at]:
                counts[at] = key
                return at
        self._clear()  # thousands of rules of earlier configurations
        counts[first * _WIDTH] = key
        return first * _WIDTH

    def _clear(self) -> None:
        self._map[8 * _HEAD : _TEXTS] = bytes(_TEXTS - 8 * _HEAD)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._threads:
            fcntl.lockf(self.fd, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self.fd, fcntl.LOCK_UN)
