"""The sockets that listeners accept connections on."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from collections.abc import Iterable, Iterator
from typing import Final

from functions.errors import ConfigError

Sockets = list[socket.socket]

_USUAL_PORTS: Final = (2525, 10_025)
"""Ports to propose instead of one that is taken."""


_REUSEPORT: Final[int | None] = getattr(socket, "SO_REUSEPORT", None)

SPREADS: Final = _REUSEPORT is not None and sys.platform == "linux"
"""True if the kernel spreads connections over the sockets that share an address. Elsewhere (macOS) all
workers accept from one socket."""


def reuseport_socket(sock: socket.socket) -> list[socket.socket]:
    """A worker's socket on the address of the parent's, which was bound as shared. Raises ConfigError if
    another process listens there."""
    if not SPREADS:
        return [sock]
    made = socket.socket(sock.family, sock.type, sock.proto)
    address = sock.getsockname()
    _prepare(made, address[1], shared=True)
    with _explained(address):
        made.bind(address)
    return [made]


def listen(sockets: Sockets, backlog: int) -> Sockets:
    """The same sockets, to which clients can connect now. Raises ConfigError, and closes them, if another
    process began to listen there after `bind`: uvloop would close such a socket and tell nothing."""
    for sock in sockets:
        address = sock.getsockname()
        try:
            with _explained(address):
                sock.listen(backlog)
        except ConfigError:
            close_all([sockets])
            raise
    return sockets


@contextlib.contextmanager
def _explained(address: tuple[str, int]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _bind_problem(error, address[0], address[1], only=False) from error


def _prepare(sock: socket.socket, port: int, *, shared: bool) -> None:
    # With this option, two processes that ask for any free port may get the same one.
    if port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared and _REUSEPORT is not None:
        sock.setsockopt(socket.SOL_SOCKET, _REUSEPORT, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


def bind(host: str, port: int, *, shared: bool, only: bool = False) -> list[socket.socket]:
    """Sockets bound to one address; `localhost` is 127.0.0.1, and "" or "*" every address. `only` says
    that the server has no other listener, so that the flags `--port` and `--bind` are for this one.
    Raises ConfigError."""
    host = {"localhost": "127.0.0.1", "*": "", "::": ""}.get(host, host)
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"bind {host}", "is not an address of this machine", _other_bind(only)) from error
    made: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(found):
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError:
            # The machine may have no IPv6.
            continue
        try:
            _prepare(sock, port, shared=shared)
            if made and not port:
                address = (address[0], made[0].getsockname()[1], *address[2:])  # noqa: PLW2901
            sock.bind(address)
        except OSError as error:
            sock.close()
            for each in made:
                each.close()
            raise _bind_problem(error, host or "every address", port, only=only) from error
        made.append(sock)
    if not made:
        raise ConfigError(f"port {port} on {host or 'every address'}", "cannot be opened")
    return made


def _bind_problem(error: OSError, place: str, port: int, *, only: bool) -> ConfigError:
    where = f"port {port} on {place}"
    other = next(one for one in _USUAL_PORTS if one != port)
    use = f"use --port {other}" if only else "choose another port in listeners"
    match error.errno:
        case errno.EADDRINUSE:
            from listener.server.port_user import port_user

            return ConfigError(where, f"is in use by {port_user(port)}", f"stop that, or {use}")
        case errno.EACCES:
            return ConfigError(where, "needs more rights: ports below 1024 are reserved", use)
        case errno.EADDRNOTAVAIL:
            return ConfigError(where, "is not an address of this machine", _other_bind(only))
    return ConfigError(where, f"cannot be opened: {error.strerror}")


def _other_bind(only: bool) -> str:
    return (
        "use --bind 127.0.0.1 for this machine, or --bind 0.0.0.0 for all its addresses"
        if only
        else ("choose another bind in listeners")
    )


def close_all(bound: Iterable[Sockets]) -> None:
    """Close the sockets of several addresses."""
    for sockets in bound:
        for sock in sockets:
            sock.close()
