"""Memory that the parent and its workers share."""

from __future__ import annotations

import mmap


class SharedMemory:
    """`size` zeroed bytes, which exist while a process holds them and leave nothing on disk.

    The parent makes it before it forks its workers, which then use the same object.
    """

    def __init__(self, size: int) -> None:
        self._map = mmap.mmap(-1, size)

    def doubles(self, offset: int, count: int) -> memoryview[float]:
        """`count` native doubles from `offset` on. Reading or setting one is a single aligned 8-byte
        move, so another process never sees half a value."""
        return memoryview(self._map)[offset : offset + 8 * count].cast("d")

    def octets(self, offset: int, count: int) -> memoryview:
        """`count` plain bytes from `offset` on."""
        return memoryview(self._map)[offset : offset + count]
