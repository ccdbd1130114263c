"""Limits the events a minute of each client address."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from listener.api.network import network_of

PERIOD: Final = 60.0
"""The period of a limit, in seconds."""

MAX_COUNTED: Final = 65_536
"""Most events that are counted at a time, over all addresses; beyond it the oldest is forgotten early."""


class RateLimit:
    """At most `most` events a minute for one address (IPv6: one network of `prefix` bits); None means
    no limit. A refused event does not count. `exempt` says which addresses have no limit."""

    def __init__(
        self,
        most: int | None,
        prefix: int,
        clock: Callable[[], float],
        exempt: Callable[[str], bool] | None = None,
    ) -> None:
        self._most = most
        self._prefix = prefix
        self._clock = clock
        self._exempt = exempt
        self._counts: dict[str, int] = {}
        self._events: deque[tuple[float, str]] = deque()

    def reached(self, ip: str) -> bool:
        """True if the address has used up its events of the last minute."""
        if self._most is None or (self._exempt is not None and self._exempt(ip)):
            return False
        self._forget()
        return self._counts.get(network_of(ip, self._prefix), 0) >= self._most

    def add(self, ip: str) -> None:
        """Count one event."""
        if self._most is None:
            return
        network = network_of(ip, self._prefix)
        self._counts[network] = self._counts.get(network, 0) + 1
        self._events.append((self._clock(), network))
        if len(self._events) > MAX_COUNTED:
            self._drop()

    def take(self, ip: str) -> bool:
        """Count one event unless the limit is reached; True if it was counted."""
        if self.reached(ip):
            return False
        self.add(ip)
        return True

    def _forget(self) -> None:
        since = self._clock() - PERIOD
        while self._events and self._events[0][0] <= since:
            self._drop()

    def _drop(self) -> None:
        _, network = self._events.popleft()
        left = self._counts[network] - 1
        if left:
            self._counts[network] = left
        else:
            del self._counts[network]
