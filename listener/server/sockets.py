"""The sockets that listeners accept connections on."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from collections.abc import Iterable, Sequence
from typing import Final

from functions.errors import ConfigError
from listener.config.listeners import Listener

Sockets = list[socket.socket]


_REUSEPORT: Final[int | None] = getattr(socket, "SO_REUSEPORT", None)

SPREADS: Final = _REUSEPORT is not None and sys.platform == "linux"
"""True if the kernel spreads connections over the sockets that share an address. Elsewhere (macOS) all
workers accept from one socket."""


def reuseport_socket(sock: socket.socket) -> list[socket.socket]:
    """A worker's socket on the address of the parent's, which was bound as shared."""
    if not SPREADS:
        return [sock]
    made = socket.socket(sock.family, sock.type, sock.proto)
    _prepare(made, shared=True)
    made.bind(sock.getsockname())
    return [made]


def _prepare(sock: socket.socket, *, shared: bool) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared and _REUSEPORT is not None:
        sock.setsockopt(socket.SOL_SOCKET, _REUSEPORT, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


def bind(host: str, port: int, *, shared: bool) -> list[socket.socket]:
    """Sockets bound to one address; `localhost` is 127.0.0.1, and "" or "*" every address."""
    host = {"localhost": "127.0.0.1", "*": "", "::": ""}.get(host, host)
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except OSError as error:
        raise ConfigError(f"bind {host}", f"is not an address of this machine: {error.strerror}") from error
    made: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(found):
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError:
            # The machine may have no IPv6.
            continue
        try:
            _prepare(sock, shared=shared)
            if made and not port:
                address = (address[0], made[0].getsockname()[1], *address[2:])  # noqa: PLW2901
            sock.bind(address)
        except OSError as error:
            sock.close()
            for each in made:
                each.close()
            raise ConfigError(f"port {port} on {host or 'every address'}", _bind_problem(error)) from error
        made.append(sock)
    if not made:
        raise ConfigError(f"port {port} on {host or 'every address'}", "cannot be opened")
    return made


def _bind_problem(error: OSError) -> str:
    words = {
        errno.EADDRINUSE: "is in use by another program; stop that one or choose another port",
        errno.EACCES: "needs more rights: ports below 1024 are reserved; choose another port",
        errno.EADDRNOTAVAIL: "is not an address of this machine; choose another bind",
    }
    return words.get(error.errno or 0, f"cannot be opened: {error.strerror}")


def announce(sockets: Sequence[tuple[Listener, Sockets]]) -> None:
    """Log the server's addresses, one line for each."""
    for listener, bound in sockets:
        kind = "lmtp" if listener.options.lmtp else "smtps" if listener.options.secure else "smtp"
        for sock in bound:
            with contextlib.suppress(OSError):
                host, port = sock.getsockname()[:2]
                shown = f"[{host}]" if ":" in host else host
                print(f"listening on {shown}:{port} ({kind}, listener {listener.name})", flush=True)


def close_all(bound: Iterable[Sockets]) -> None:
    """Close the sockets of several addresses."""
    for sockets in bound:
        for sock in sockets:
            sock.close()
