"""Room for mails that are read whole: how many bytes the process holds for them at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Final

ROOM: Final = 50_331_648
"""Bytes that all mails that are read at once take. A mail that takes more is read alone."""

FOR_TEXT: Final = 16
"""Bytes that a reader takes for each byte of text that it reads, at the worst."""

SMALL: Final = 262_144
"""A mail of at most these bytes needs no place."""


_MMAP_THRESHOLD: Final = -3  # M_MMAP_THRESHOLD of mallopt(3)
_LARGE: Final = 1_048_576  # bytes of a block that goes back to the system when it is freed


@cache
def _give_memory_back() -> None:
    """Let glibc give each large block back when it is freed. By itself it keeps blocks of up to 32 MiB for
    every thread, and each thread that reads a large mail would hold them for good."""
    import ctypes

    with suppress(AttributeError, OSError, TypeError):  # other C libraries have no such setting
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _LARGE)


class Places:
    """Gives places to threads in the order in which they ask."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._taken = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def place(self, size: int, text: int = 0) -> Iterator[Callable[[int], None]]:
        """A place until the block ends for a mail of `size` bytes, of which at most `text` bytes of texts
        are read. Waits for it, except for a small mail. Call the result to keep only so many bytes of it."""
        if size <= SMALL:
            yield lambda _: None
            return
        _give_memory_back()
        size = min(size + FOR_TEXT * min(size, text), self._room)
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(
                    lambda: self._waiting[0] is ticket and self._taken + size <= self._room
                )
                self._taken += size
            finally:  # a thread that gives up its wait must not stop those behind it
                self._waiting.remove(ticket)
                self._changed.notify_all()

        def keep(less: int) -> None:
            nonlocal size
            with self._changed:
                self._taken -= size - min(size, less)
                size = min(size, less)
                self._changed.notify_all()

        try:
            yield keep
        finally:
            keep(0)


place = Places(ROOM).place
