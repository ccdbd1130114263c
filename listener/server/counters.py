"""Counts of open connections that all workers share."""

from __future__ import annotations

from listener.monitoring.shared_memory import SharedMemory

_TABLES = 8
_SLOTS = 8_192
"""Addresses are counted by several hashes of them, each into so many slots, and the smallest count is
used. So memory stays constant, and an address is counted too high only if others share every one of its
slots, which happens to one in 200,000 among 2,000 addresses."""

_ROW = 1 + _TABLES * _SLOTS


class SharedCounters:
    """One row per worker: its total, then its counts by slot. Each worker writes only its own row, so
    no lock is needed, and zeroing the row forgets a worker that died."""

    def __init__(self, workers: int) -> None:
        memory = SharedMemory(8 * _ROW * workers)
        self._rows = [memory.doubles(8 * _ROW * index, _ROW) for index in range(workers)]

    def forget(self, index: int) -> None:
        """A worker is gone, and its connections with it."""
        row = self._rows[index]
        for at in range(len(row)):
            if row[at]:
                row[at] = 0.0

    def of(self, index: int) -> WorkerCounters:
        """The counts that one worker keeps."""
        return WorkerCounters(self._rows, index)


class WorkerCounters:
    """One worker's view: it counts its own connections exactly, and sees the sums of all."""

    def __init__(self, rows: list[memoryview[float]], index: int) -> None:
        self._rows = rows
        self._row = rows[index]

    def add(self, ip: str, change: int) -> tuple[int, int]:
        row, rows = self._row, self._rows
        row[0] += change
        total = int(sum([each[0] for each in rows]))
        return total, self.add_to(ip, change) if ip else 0

    def add_to(self, group: str, change: int) -> int:
        row, rows = self._row, self._rows
        counts = []
        for at in _slots_of(group):
            row[at] += change
            counts.append(sum([each[at] for each in rows]))
        return int(min(counts))


def _slots_of(ip: str) -> list[int]:
    """The address's slot in each table. Two hashes give as many as needed (Kirsch and Mitzenmacher,
    "Less hashing, same performance")."""
    hashed = hash(ip)
    step = (hashed >> 32) | 1
    return [1 + table * _SLOTS + (hashed + table * step) % _SLOTS for table in range(_TABLES)]
