"""Health of the serving processes, in memory that the parent can read.

Each worker has a row of shared memory: when its event loop last turned, its state, and the result
of the spool's last test. CLOCK_MONOTONIC is the same for all processes of a machine, so the parent
judges a row by its own clock. A worker with a hanging loop stops updating its row.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Final, NamedTuple

from listener.monitoring.shared_memory import SharedMemory

log = logging.getLogger("smtp_relay.health")

INTERVAL: Final = 1.0
"""Seconds between updates."""

STALE: Final = 15.0
"""Seconds without an update after which a worker counts as hung; also the time that a worker has to start."""

SPOOL_INTERVAL: Final = 10.0
SPOOL_TIMEOUT: Final = 5.0

_ROW: Final = 4  # doubles a worker
_BEAT, _STATE, _SPOOL = range(3)


class WorkerState(IntEnum):
    """The state of a worker."""

    STARTING = 0
    ACCEPTING = 1
    DRAINING = 2


class SpoolHealth(IntEnum):
    """The result of the last test of the spool."""

    UNTRIED = 0
    WRITABLE = 1
    FAILING = 2


class Health(NamedTuple):
    """`alive`: event loops turn, connections are accepted, the server is not draining. `ready`: the
    spool also accepts mails. `reasons` name the faults."""

    alive: bool
    ready: bool
    reasons: tuple[str, ...]


class HealthTable:
    """All workers' rows, made by the parent; each worker is expected to be accepting within STALE
    seconds."""

    def __init__(self, workers: int = 1) -> None:
        memory = SharedMemory(8 * _ROW * workers)
        self._rows = [memory.doubles(8 * _ROW * index, _ROW) for index in range(workers)]
        for index in range(workers):
            self.expect(index)

    def expect(self, index: int) -> None:
        """The parent calls this before it starts a worker (again)."""
        row = self._rows[index]
        row[_STATE], row[_SPOOL], row[_BEAT] = WorkerState.STARTING, SpoolHealth.UNTRIED, time.monotonic()

    def worker_health(self, index: int) -> WorkerHealth:
        """The writer of one worker's row."""
        return WorkerHealth(self._rows[index])

    def status(self) -> Health:
        """The state of the workers now. A worker that starts, or drains because only it is replaced,
        raises no alarm as long as another one accepts."""
        now = time.monotonic()
        states = [WorkerState(int(row[_STATE])) for row in self._rows]
        amiss, draining = [], []
        for index, (row, state) in enumerate(zip(self._rows, states, strict=True)):
            if (silent := now - row[_BEAT]) > STALE:
                amiss.append(f"worker {index}: no sign of life for {silent:.0f} s")
            elif state is WorkerState.DRAINING:
                draining.append(f"worker {index}: draining")
        if WorkerState.ACCEPTING not in states:
            amiss += draining
            amiss = amiss or ["starting"]
        alive = not amiss
        for index, row in enumerate(self._rows):
            spool = SpoolHealth(int(row[_SPOOL]))
            if spool is SpoolHealth.FAILING:
                amiss.append(f"worker {index}: the spool cannot be written")
            elif spool is SpoolHealth.UNTRIED and states[index] is WorkerState.ACCEPTING:
                amiss.append(f"worker {index}: the spool was not tested yet")
        return Health(alive, not amiss, tuple(amiss))


class WorkerHealth:
    """One worker's row."""

    def __init__(self, row: memoryview[float]) -> None:
        self._row = row
        self._asked = asyncio.Event()

    def accepting(self) -> None:
        """The worker accepts connections from now on."""
        self.pulse()
        self._row[_STATE] = WorkerState.ACCEPTING

    def draining(self) -> None:
        """The worker accepts no new connections; the process ends after the open ones."""
        self._row[_STATE] = WorkerState.DRAINING

    def pulse(self) -> None:
        """The event loop turned."""
        self._row[_BEAT] = time.monotonic()

    async def try_spool(self, probe: Callable[[], Awaitable[object]]) -> None:
        """Run `probe` once: the spool counts as failing if it raises or takes longer than
        SPOOL_TIMEOUT."""
        try:
            async with asyncio.timeout(SPOOL_TIMEOUT):
                await probe()
        except Exception as error:  # noqa: BLE001  # whatever it is, mails cannot be stored
            if self._row[_SPOOL] != SpoolHealth.FAILING:
                log.error("the spool cannot be written: %r", error)
            self._row[_SPOOL] = SpoolHealth.FAILING
        else:
            if self._row[_SPOOL] == SpoolHealth.FAILING:
                log.info("the spool can be written again")
            self._row[_SPOOL] = SpoolHealth.WRITABLE

    def ask(self) -> None:
        """Test the spool now, because its state may have changed."""
        self._asked.set()

    async def run(self, probe: Callable[[], Awaitable[object]], *, interval: float = INTERVAL) -> None:
        """Update the row until cancelled, and test the spool every SPOOL_INTERVAL and on request. The
        server runs this as a task."""

        async def spool() -> None:
            while True:
                self._asked.clear()
                await self.try_spool(probe)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SPOOL_INTERVAL):
                        await self._asked.wait()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(spool())
            while True:
                self.pulse()
                await asyncio.sleep(interval)
