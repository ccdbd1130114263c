"""Places for concurrent queries, shared fairly among clients."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

MAX_IN_FLIGHT: Final = 256
"""Most concurrent queries; more wait, within their own time limit."""

CLIENT_SHARE: Final = 8
"""A client may hold an eighth of the places that are free: 29 when it is alone. Each further client gets
an eighth of the rest, so that more than 30 clients must join to take all."""

_Waiter = asyncio.Future[None]


class QueryPlaces:
    """A semaphore with shares: a client that holds its share waits for its own queries. Clients that
    wait take turns, whatever the number of their waiting queries. Serves one event loop."""

    def __init__(self, total: int = MAX_IN_FLIGHT) -> None:
        self._total = total
        self._free = total
        self._held: dict[str, int] = {}
        self._waiting: OrderedDict[str, OrderedDict[_Waiter, None]] = OrderedDict()

    @property
    def free(self) -> float:
        """The free part of all places, between 0 and 1."""
        return self._free / self._total

    async def acquire(self, client: str) -> None:
        """Take a place for a client, or wait for one."""
        if self._may_take(client):
            self._take(client)
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, OrderedDict())[waiter] = None
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                self._forget(client, waiter)
            else:
                self.release(client)
            raise

    def release(self, client: str) -> None:
        """Give a place back, and pass free places to the clients that wait."""
        self._free += 1
        self._held[client] -= 1
        if not self._held[client]:
            del self._held[client]
        while (turn := next(filter(self._may_take, self._waiting), None)) is not None:
            waiter = next(iter(self._waiting[turn]))
            self._forget(turn, waiter)
            if waiter.cancelled():  # and its task has not run since
                continue
            if turn in self._waiting:
                self._waiting.move_to_end(turn)
            self._take(turn)
            waiter.set_result(None)

    def _may_take(self, client: str) -> bool:
        return self._free > self._held.get(client, 0) * CLIENT_SHARE

    def _take(self, client: str) -> None:
        self._free -= 1
        self._held[client] = self._held.get(client, 0) + 1

    def _forget(self, client: str, waiter: _Waiter) -> None:
        waiters = self._waiting.get(client)
        if waiters is not None and waiter in waiters:
            del waiters[waiter]
            if not waiters:
                del self._waiting[client]
