"""The network that a client's address stands for, where clients are counted."""

from __future__ import annotations

import socket
from functools import lru_cache


@lru_cache(maxsize=4_096)
def network_of(ip: str, prefix: int = 64) -> str:
    """`ip` itself for IPv4, and for IPv6 its network of `prefix` bits (`2001:db8:0:7::/64`), because one
    party is given all addresses of a network (RFC 6177) and may use another for each connection.
    An IPv4 address that is mapped into IPv6 counts as itself, other text as it is."""
    if ":" not in ip or prefix >= 128:
        return ip
    try:
        packed = int.from_bytes(socket.inet_pton(socket.AF_INET6, ip.partition("%")[0]))
    except OSError:
        return ip
    if packed >> 32 == 0xFFFF:  # RFC 4291 section 2.5.5.2
        return socket.inet_ntop(socket.AF_INET, (packed & 0xFFFFFFFF).to_bytes(4))
    network = packed >> (128 - prefix) << (128 - prefix)
    return f"{socket.inet_ntop(socket.AF_INET6, network.to_bytes(16))}/{prefix}"
