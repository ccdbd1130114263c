"""Failed logins of the last minute, which the processes of one server count together: SMTP and the inbox."""

from __future__ import annotations

import hashlib
import mmap
import os
import time
from collections.abc import Callable
from typing import Final

from listener.filters.respond.memory import unnamed

PERIOD: Final = 60.0
"""Seconds for which a failure counts."""

MOST: Final = 2_048
"""Failures of one process that are remembered at a time; of more, the oldest is forgotten early."""

_ROW: Final = 1 + 2 * MOST


class FailedLogins:
    """A row for each process: how many failures it had, then the time and network of the latest. Each
    process writes its own row alone, so no lock is needed. The memory has a descriptor, so that a process
    that is started by its name can have it too; nothing stays on disk."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, os.fstat(fd).st_size)
        whole = memoryview(self._map).cast("d")
        self._rows = [whole[start : start + _ROW] for start in range(0, len(whole), _ROW)]

    @classmethod
    def new(cls, processes: int) -> FailedLogins:
        """The memory of so many processes, without a failure."""
        return cls(unnamed(8 * _ROW * processes))

    def of(self, index: int, clock: Callable[[], float] = time.monotonic) -> ProcessFailures:
        """The failures as one process counts them; -1 is the last one. `clock` is the same for all."""
        mine = self._rows[index]
        return ProcessFailures(mine, [row for row in self._rows if row is not mine], clock)


class ProcessFailures:
    """One process's view: it adds its own failures, and sees those of all."""

    def __init__(
        self, mine: memoryview[float], others: list[memoryview[float]], clock: Callable[[], float]
    ) -> None:
        self._mine = mine
        self._others = others
        self._clock = clock

    def add(self, network: str) -> None:
        """A client of this network failed to log in."""
        row = self._mine
        at = 1 + 2 * (int(row[0]) % MOST)
        row[at], row[at + 1] = self._clock(), _number(network)
        row[0] += 1

    def elsewhere(self, network: str) -> int:
        """How often clients of a network failed at the other processes within the last minute."""
        return self._count(self._others, network)

    def count(self, network: str) -> int:
        """The same, those of this process included."""
        return self._count([self._mine, *self._others], network)

    def _count(self, rows: list[memoryview[float]], network: str) -> int:
        wanted, since, found = _number(network), self._clock() - PERIOD, 0
        for row in rows:
            last = int(row[0])
            for number in range(last - 1, max(last - MOST, 0) - 1, -1):
                at = 1 + 2 * (number % MOST)
                if row[at] <= since:
                    break
                found += row[at + 1] == wanted
        return found


def _number(network: str) -> float:
    """A network as a number that a double holds exactly."""
    text = network.encode("utf-8", "surrogatepass")
    return float(int.from_bytes(hashlib.blake2b(text, digest_size=6).digest()))
