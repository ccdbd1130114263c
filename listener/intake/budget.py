"""The bytes that the uploads of a process hold in memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Budget:
    """At most `total` bytes in use at a time, first come, first served. A request above the total gets the
    total."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def use(self, size: int) -> AsyncIterator[None]:
        """Wait in the queue, then hold this number of bytes inside the block."""
        share = min(size, self._total)
        await self._take(share)
        try:
            yield
        finally:
            self.give(share)

    def take_at_once(self, size: int) -> bool:
        """Hold this number of bytes until `give`. Returns False if that needs a wait."""
        if self._waiting or size > self._free:
            return False
        self._free -= size
        return True

    def give(self, size: int) -> None:
        self._free += size
        self._serve()

    async def _take(self, share: int) -> None:
        if not self._waiting and share <= self._free:
            self._free -= share
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (share, turn)
        self._waiting.append(entry)
        try:
            await turn
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
            elif not turn.cancelled():
                self._free += share  # served at the moment of cancellation
            self._serve()
            raise

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            share, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._free -= share
                turn.set_result(None)
