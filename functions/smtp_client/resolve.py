"""Finds a server's addresses and connects, within a time limit."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from functions.smtp_client.reply import Unreachable

_Found = list[tuple[Any, ...]]

_LEAST: Final = 0.5
"""Least seconds for each further address when one used up the time."""


class Place(Protocol):
    """An address to connect to; `str()` names it. Time-outs are in seconds."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def dns_timeout(self) -> float: ...
    @property
    def connect_timeout(self) -> float: ...


def connect(server: Place, limit: Callable[[], float]) -> socket.socket:
    """A socket connected to the first address that answers; all addresses share the time-out. Raises
    Unreachable."""
    found = _addresses(server, min(server.dns_timeout, limit()))
    deadline = time.monotonic() + min(server.connect_timeout, limit())
    reason = "it has no address"
    for left, (family, kind, protocol, _, address) in zip(range(len(found), 0, -1), found, strict=True):
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            # The machine may have no IPv6.
            reason = error.strerror or "no such address family"
            continue
        try:
            sock.settimeout(max(_LEAST, (deadline - time.monotonic()) / left))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as error:
            sock.close()
            timed_out = isinstance(error, TimeoutError)
            reason = "it does not answer" if timed_out else error.strerror or type(error).__name__
            continue
        return sock
    raise Unreachable(f"{server} cannot be reached: {reason}", enhanced="4.4.1")


def _addresses(server: Place, patience: float) -> _Found:
    """getaddrinfo has no time-out, so it runs in a thread that is abandoned when it takes too long."""
    answers: queue.SimpleQueue[_Found | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answers.put(error if isinstance(error, OSError) else OSError(None, str(error)))

    threading.Thread(target=ask, name="smtp-dns", daemon=True).start()
    try:
        found = answers.get(timeout=max(0.0, patience))
    except queue.Empty:
        raise Unreachable(
            f"{server} cannot be reached: its name was not resolved in time", enhanced="4.4.3"
        ) from None
    if isinstance(found, OSError):
        raise Unreachable(f"{server} cannot be reached: {found.strerror or found}", enhanced="4.4.3")
    return list(dict.fromkeys(found))
