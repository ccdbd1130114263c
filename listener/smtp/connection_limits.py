"""Limits on open connections, shared by all workers of the server."""

from __future__ import annotations

from typing import Final, Protocol

from listener.api.decision import Reply
from listener.api.network import network_of
from listener.smtp.rate_limit import RateLimit
from listener.smtp.replies import FULL, FULL_FOR_ADDRESS, TOO_OFTEN

NOBODY: Final = ""
"""Replaces an address that is not known yet, or does not matter: it counts only in the total."""


class Counters(Protocol):
    """Shared counts of open connections."""

    def add(self, ip: str, change: int) -> tuple[int, int]:
        """Change the counts; returns the new total and the new count of this address (0 for NOBODY)."""

    def add_to(self, group: str, change: int) -> int:
        """Change the count of one group of connections, and no other; returns the new one."""


class LocalCounters:
    """Counts of one process."""

    def __init__(self) -> None:
        self._total = 0
        self._by_address: dict[str, int] = {}

    def add(self, ip: str, change: int) -> tuple[int, int]:
        self._total += change
        return self._total, 0 if ip == NOBODY else self.add_to(ip, change)

    def add_to(self, group: str, change: int) -> int:
        count = self._by_address.get(group, 0) + change
        if count > 0:
            self._by_address[group] = count
        else:
            self._by_address.pop(group, None)
        return count


class Ticket:
    """One counted connection, until it leaves."""

    __slots__ = ("_counters", "_group", "_ip")

    def __init__(self, counters: Counters, ip: str, group: str) -> None:
        self._counters: Counters | None = counters
        self._ip = ip
        self._group = group

    def leave(self) -> None:
        """Count the connection out; a second call does nothing."""
        counters, self._counters = self._counters, None
        if counters is not None:
            counters.add(self._ip, -1)
            if self._group:
                counters.add_to(self._group, -1)


class ConnectionLimits:
    """Admits connections up to `max_clients` in all and `max_per_address` from one address (IPv6: one
    network of `ipv6_prefix` bits); 0 is no limit. `rate` bounds how often an address may connect.

    The limit of a listener that sets its own counts only for that listener: `own_clients` and
    `own_addresses` are then its name, else "".
    """

    def __init__(
        self,
        counters: Counters,
        max_clients: int,
        max_per_address: int,
        *,
        own_clients: str = "",
        own_addresses: str = "",
        ipv6_prefix: int = 64,
        rate: RateLimit | None = None,
    ) -> None:
        self._ipv6_prefix = ipv6_prefix
        self._rate = rate
        self._counters = counters
        self._max_clients = max_clients
        self._max_per_address = max_per_address
        # No address holds a NUL, so groups and addresses never collide.
        self._group = f"\0{own_clients}" if own_clients else ""
        self._prefix = f"{own_addresses}\0" if own_addresses else ""

    def hold(self) -> Ticket | Reply:
        """Count in a connection whose client is not known yet, or return the reply that refuses it."""
        ticket, total, _ = self._count_in(NOBODY)
        if not self._max_clients or total <= self._max_clients:
            return ticket
        ticket.leave()
        return FULL

    def enter(self, ip: str) -> Ticket | Reply:
        """Count in a connection under its client's address, or return the reply that refuses it."""
        if self._rate is not None and not self._rate.take(ip):
            return TOO_OFTEN
        # With several workers counting by address takes a while, and only a limit by address needs
        # it.
        ticket, total, own = self._count_in(self._key(ip) if self._max_per_address else NOBODY)
        if self._max_clients and total > self._max_clients:
            ticket.leave()
            return FULL
        if self._max_per_address and own > self._max_per_address:
            ticket.leave()
            return FULL_FOR_ADDRESS
        return ticket

    def _key(self, ip: str) -> str:
        return self._prefix + network_of(ip, self._ipv6_prefix)

    def _count_in(self, ip: str) -> tuple[Ticket, int, int]:
        """The count for `max_clients`, and that of the address."""
        total, own = self._counters.add(ip, 1)
        if self._group:
            total = self._counters.add_to(self._group, 1)
        return Ticket(self._counters, ip, self._group), total, own
