"""Counts of open connections that all workers share."""

from __future__ import annotations

from listener.shared import SharedMemory

_SLOTS = 32_768
"""Addresses are counted by two hashes of them, each into so many slots, and the smaller count is
taken: memory stays flat, and an address is counted too high only when others share both its slots,
which among 2,000 addresses happens to none."""

_ROW = 1 + 2 * _SLOTS


class SharedCounters:
    """One row per worker: its total, then its counts by slot. Each worker writes its own row only,
    so that no lock is needed and a worker that died is forgotten by zeroing its row."""

    def __init__(self, memory: SharedMemory, workers: int) -> None:
        self._rows = [memory.doubles(8 * _ROW * index, _ROW) for index in range(workers)]

    @classmethod
    def create(cls, workers: int) -> SharedCounters:
        return cls(SharedMemory.create(8 * _ROW * workers), workers)

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
        row, mixed = self._row, hash(ip)
        first = 1 + mixed % _SLOTS
        second = 1 + _SLOTS + (mixed >> 24) % _SLOTS
        row[0] += change
        row[first] += change
        row[second] += change
        total = count = other = 0.0
        for each in self._rows:
            total += each[0]
            count += each[first]
            other += each[second]
        return int(total), int(min(count, other))
