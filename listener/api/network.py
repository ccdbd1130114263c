"""The network that a client's address stands for, where clients are counted."""

from __future__ import annotations

import socket
from functools import lru_cache


@lru_cache(maxsize=4_096)
def network_of(ip: str, prefix: int) -> str:
    """`ip` itself for IPv4, and for IPv6 its network of `prefix` bits (`2001:db8:0:7::/64`), because one
    party is given all addresses of a network (RFC 6177) and may use another for each connection."""
    if ":" not in ip or prefix >= 128:
        return ip
    try:
        packed = int.from_bytes(socket.inet_pton(socket.AF_INET6, ip))
    except OSError:
        return ip
    network = packed >> (128 - prefix) << (128 - prefix)
    return f"{socket.inet_ntop(socket.AF_INET6, network.to_bytes(16))}/{prefix}"
