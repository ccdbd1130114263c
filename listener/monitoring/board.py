"""Shared metrics: every worker writes its figures there, and the parent can read them at any moment.

Each worker has a region of shared memory: a header, an array of doubles (the values), and a
directory that grows by one JSON line per new series and gives the place of its values. Only the
worker writes to its region, with plain stores; readers take no lock. A worker that replaces a dead
one continues from the same values, so counters never fall.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from listener.monitoring.families import BY_NAME, FAMILIES, Family
from listener.monitoring.shared_memory import SharedMemory

VALUES: Final = 16_384
"""Doubles per worker: some 800 histogram series or 16,000 counters. Untouched pages take no memory."""

DIRECTORY: Final = 524_288

_HEADER: Final = 64
_SINK: Final = VALUES - max(family.width for family in FAMILIES)  # never allocated, never read
_REGION: Final = _HEADER + 8 * VALUES + DIRECTORY

# Places of the header, each a double.
_USED = 0  # complete bytes of the directory
_PID = 1
_LOST = 2  # series without room


class Series(NamedTuple):
    """One series of a region: its label values and the start of its `family.width` doubles."""

    family: Family
    labels: tuple[str, ...]
    start: int


class WorkerMetrics:
    """One worker's part of the board."""

    def __init__(self, memory: SharedMemory, index: int) -> None:
        offset = index * _REGION
        self._header = memory.doubles(offset, _HEADER // 8)
        self.values = memory.doubles(offset + _HEADER, VALUES)
        self._directory = memory.octets(offset + _HEADER + 8 * VALUES, DIRECTORY)
        self._next = 0
        self.index = index

    @property
    def pid(self) -> int:
        """The writing process; 0 before the first."""
        return int(self._header[_PID])

    @property
    def lost(self) -> int:
        """The number of series without room."""
        return int(self._header[_LOST])

    def claim(self) -> list[Series]:
        """Become the writer of this region. Returns the series of an earlier writer."""
        found = list(self.series())
        self._next = max((s.start + s.family.width for s in found), default=0)
        self._header[_PID] = os.getpid()
        return found

    def add(self, family: Family, labels: tuple[str, ...]) -> int:
        """Make room for a new series and return the start of its values. In a full region the series
        counts as lost, and its values go to a place that is never read."""
        line = json.dumps([family.name, self._next, *labels]).encode() + b"\n"
        used = int(self._header[_USED])
        start = self._next
        if start + family.width > _SINK or used + len(line) > DIRECTORY:
            self._header[_LOST] += 1
            return _SINK
        self._directory[used : used + len(line)] = line
        self._next = start + family.width
        self._header[_USED] = used + len(line)  # last, so a reader sees only whole lines
        return start

    def series(self) -> Iterator[Series]:
        """All series of this region, in order of appearance."""
        used = int(self._header[_USED])
        for line in bytes(self._directory[:used]).splitlines():
            name, start, *labels = json.loads(line)
            if (family := BY_NAME.get(name)) is not None:
                yield Series(family, tuple(labels), start)


class SharedMetrics:
    """All workers' regions. The parent makes them before it starts workers."""

    def __init__(self, workers: int = 1) -> None:
        memory = SharedMemory(workers * _REGION)
        self.regions = tuple(WorkerMetrics(memory, index) for index in range(workers))
