"""A piece of memory that the parent and its worker processes see alike."""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import Self


class SharedMemory:
    """Zeroed memory that lives as long as somebody holds it; nothing stays behind on disk.

    Made by the parent before it starts workers. Forked workers simply use the same object;
    workers started anew are passed `fileno()` (subprocess `pass_fds`) and call `attach`.
    """

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self.size = size
        self._map = mmap.mmap(fd, size)

    @classmethod
    def create(cls, size: int) -> Self:
        """New memory of `size` octets. Raises OSError where neither anonymous memory nor a
        temporary folder can be had."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("smtp-relay")
        else:  # not Linux: a file that loses its name at once
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, size)
        return cls(fd, size)

    @classmethod
    def attach(cls, fd: int) -> Self:
        """The memory behind a descriptor that came from the parent's `fileno()`."""
        return cls(fd, os.fstat(fd).st_size)

    def fileno(self) -> int:
        """The descriptor to hand to a worker that is not a fork."""
        return self._fd

    def doubles(self, offset: int, count: int) -> memoryview[float]:
        """`count` native doubles from `offset` on. Reading or setting one is a single aligned
        8-octet move, so that another process never sees half a value."""
        return memoryview(self._map)[offset : offset + 8 * count].cast("d")

    def octets(self, offset: int, count: int) -> memoryview:
        """`count` plain octets from `offset` on."""
        return memoryview(self._map)[offset : offset + count]
