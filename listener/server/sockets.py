"""The sockets that listeners accept connections on."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from functions.errors import ConfigError

Sockets = list[socket.socket]


def reuseport_socket(sock: socket.socket) -> list[socket.socket]:
    """Another socket on the same address, which was bound as shared."""
    made = socket.socket(sock.family, sock.type, sock.proto)
    _prepare(made, shared=True)
    made.bind(sock.getsockname())
    return [made]


def _prepare(sock: socket.socket, *, shared: bool) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
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
        98: "is in use by another program; stop that one or choose another port",
        48: "is in use by another program; stop that one or choose another port",
        13: "needs more rights: ports below 1024 are reserved; choose another port",
        99: "is not an address of this machine; choose another bind",
    }
    return words.get(error.errno or 0, f"cannot be opened: {error.strerror}")


def close_all(bound: Iterable[Sockets]) -> None:
    """Close the sockets of several addresses."""
    for sockets in bound:
        for sock in sockets:
            sock.close()
