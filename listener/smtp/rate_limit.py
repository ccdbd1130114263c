"""Limits the events a minute of each client address."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from listener.api.network import network_of

PERIOD: Final = 60.0
"""The period of a limit, in seconds."""

MAX_COUNTED: Final = 65_536
"""Most events that are counted at a time, over all addresses; beyond it the oldest is forgotten early."""


class SharedEvents(Protocol):
    """Events that several processes count together."""

    def add(self, network: str) -> None:
        """Count one event."""

    def elsewhere(self, network: str) -> int:
        """The events of the last minute at the other processes."""


class RateLimit:
    """At most `most` events a minute for one address (IPv6: one network of `prefix` bits); None means
    no limit. A refused event does not count. `exempt` says which addresses have no limit. `shared`, if set,
    has the events of other processes, and is told of all."""

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
        self.shared: SharedEvents | None = None
        self._counts: dict[str, int] = {}
        self._events: deque[tuple[float, str]] = deque()

    def reached(self, ip: str) -> bool:
        """True if the address has used up its events of the last minute."""
        if self._most is None or (self._exempt is not None and self._exempt(ip)):
            return False
        self._forget()
        network = network_of(ip, self._prefix)
        elsewhere = self.shared.elsewhere(network) if self.shared is not None else 0
        return self._counts.get(network, 0) + elsewhere >= self._most

    def add(self, ip: str) -> None:
        """Count one event."""
        network = network_of(ip, self._prefix)
        if self.shared is not None:
            self.shared.add(network)
        if self._most is None:
            return
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
