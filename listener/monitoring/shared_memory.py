"""Memory that the parent and its workers share."""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import Self


class SharedMemory:
    """Zeroed memory that exists while a process holds it and leaves nothing on disk.

    The parent makes it before it starts workers. Forked workers use the same object; other workers get
    `fileno()` (subprocess `pass_fds`) and call `attach`.
    """

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self.size = size
        self._map = mmap.mmap(fd, size)

    @classmethod
    def create(cls, size: int) -> Self:
        """New memory of `size` bytes. Raises OSError if neither anonymous memory nor a temporary folder
        is available."""
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
        """`count` native doubles from `offset` on. Reading or setting one is a single aligned 8-byte
        move, so another process never sees half a value."""
        return memoryview(self._map)[offset : offset + 8 * count].cast("d")

    def octets(self, offset: int, count: int) -> memoryview:
        """`count` plain bytes from `offset` on."""
        return memoryview(self._map)[offset : offset + count]
