"""Who may be connected at once: limits for the server, whatever the number of workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from listener.api.decision import Reply

if TYPE_CHECKING:
    from listener.smtp.connection import Connection

FULL: Final = Reply(421, "4.7.0", "Too many connections, try again later")
FULL_FOR_ADDRESS: Final = Reply(421, "4.7.0", "Too many connections from your address, try again later")

NOBODY: Final = ""
"""Stands for an address that is not known yet, or that does not matter: it is counted in all only."""


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


class Gate:
    """Admits connections up to `max_clients` in all and `max_per_address` from one address; 0 is no
    limit.

    A listener that sets a limit of its own counts for it alone: `own_clients` and `own_addresses` are
    then its name, else "".
    """

    def __init__(
        self,
        counters: Counters,
        max_clients: int,
        max_per_address: int,
        *,
        own_clients: str = "",
        own_addresses: str = "",
    ) -> None:
        self._counters = counters
        self._max_clients = max_clients
        self._max_per_address = max_per_address
        # No address holds a NUL, so that groups and addresses never meet.
        self._group = f"\0{own_clients}" if own_clients else ""
        self._prefix = f"{own_addresses}\0" if own_addresses else ""

    def hold(self, connection: Connection) -> Reply | None:
        """Count a connection in whose client is not known yet, or say why it may not stay."""
        total, _ = self._count_in(connection, NOBODY)
        if not self._max_clients or total <= self._max_clients:
            return None
        self.leave(connection)
        return FULL

    def enter(self, connection: Connection) -> Reply | None:
        """Count a connection in, under its client's address now, or say why it may not stay."""
        self.leave(connection)
        # Counting by address takes a while with several workers; it is done for those who ask.
        ip = self._prefix + connection.session.ip if self._max_per_address else NOBODY
        total, own = self._count_in(connection, ip)
        if self._max_clients and total > self._max_clients:
            reply: Reply | None = FULL
        elif self._max_per_address and own > self._max_per_address:
            reply = FULL_FOR_ADDRESS
        else:
            return None
        self.leave(connection)
        return reply

    def leave(self, connection: Connection) -> None:
        """Count a connection out, if it is in."""
        ip = connection.admitted_as
        if ip is not None:
            connection.admitted_as = None
            self._counters.add(ip, -1)
            if self._group:
                self._counters.add_to(self._group, -1)

    def _count_in(self, connection: Connection, ip: str) -> tuple[int, int]:
        """The count that `max_clients` is for, and that of the address."""
        total, own = self._counters.add(ip, 1)
        connection.admitted_as = ip
        return self._counters.add_to(self._group, 1) if self._group else total, own
