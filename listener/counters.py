"""Counts of open connections that all workers share."""

from __future__ import annotations

from listener.shared import SharedMemory

_SLOTS = 4096
"""Addresses are counted by a hash of them into so many slots: two that share one are limited
together, which errs on the safe side and keeps the memory flat."""


class SharedCounters:
    """One row per worker: its total, then its counts by slot. Each worker writes its own row only,
    so that no lock is needed and a worker that died is forgotten by zeroing its row."""

    def __init__(self, memory: SharedMemory, workers: int) -> None:
        self._rows = [memory.doubles(8 * (_SLOTS + 1) * index, _SLOTS + 1) for index in range(workers)]

    @classmethod
    def create(cls, workers: int) -> SharedCounters:
        return cls(SharedMemory.create(8 * (_SLOTS + 1) * workers), workers)

    def forget(self, index: int) -> None:
        """A worker is gone, and its connections with it."""
        row = self._rows[index]
        for at in range(len(row)):
            if row[at]:
                row[at] = 0.0

    def of(self, index: int) -> WorkerCounters:
        """What one worker counts with."""
        return WorkerCounters(self._rows, index)


class WorkerCounters:
    """One worker's view: counts its own exactly, and sees the sums of all."""

    def __init__(self, rows: list[memoryview[float]], index: int) -> None:
        self._rows = rows
        self._row = rows[index]

    def add(self, ip: str, change: int) -> tuple[int, int]:
        slot = 1 + hash(ip) % _SLOTS
        self._row[0] += change
        self._row[slot] += change
        total = sum(row[0] for row in self._rows)
        return int(total), int(sum(row[slot] for row in self._rows))
