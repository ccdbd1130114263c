"""Addresses that no request may reach: those of metadata services and link-local ones, in every form."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address

_REFUSED: Final = tuple(
    map(
        ip_network,
        (
            "169.254.0.0/16",  # RFC 3927, with the metadata services of AWS, Azure, Google, ECS and EKS
            "fe80::/10",  # RFC 4291 section 2.5.6
            "fd00:ec2::/32",  # AWS over IPv6, and EKS
            "fd20:ce::254/128",  # Google over IPv6
            "100.100.100.200/32",  # Alibaba
            "168.63.129.16/32",  # Azure's platform
            "192.0.0.192/32",  # Oracle
        ),
    )
)

_EMBEDDED: Final[tuple[tuple[IPv6Network, int], ...]] = (
    (IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped, RFC 4291
    (IPv6Network("::/96"), 0),  # IPv4-compatible, RFC 4291
    (IPv6Network("::ffff:0:0:0/96"), 0),  # IPv4-translated, RFC 2765
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64, RFC 6052
    (IPv6Network("2002::/16"), 80),  # 6to4, RFC 3056
    (IPv6Network("2001::/32"), 64),  # the server of Teredo, RFC 4380
)
"""Networks of IPv6 whose addresses hold one of IPv4, and the number of bits behind it."""

_TEREDO: Final = IPv6Network("2001::/32")
_LOCAL_NAT64: Final = IPv6Network("64:ff9b:1::/48")  # RFC 8215
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})  # RFC 5214 section 6.1


def refused(text: str) -> str | None:
    """The address inside `text`, an IP address, that no request may reach; None if there is none."""
    for address in forms(ip_address(text.partition("%")[0])):
        for network in _REFUSED:
            if address in network:
                return str(address)
    return None


def forms(address: Address) -> Iterator[Address]:
    """The address, and those of IPv4 that it holds."""
    yield address
    if isinstance(address, IPv4Address):
        return
    number = int(address)
    for network, behind in _EMBEDDED:
        if address in network:
            yield IPv4Address(number >> behind & 0xFFFF_FFFF)
    if address in _TEREDO:
        yield IPv4Address(number & 0xFFFF_FFFF ^ 0xFFFF_FFFF)  # the client's address, inverted
    if number >> 32 & 0xFFFF_FFFF in _ISATAP:
        yield IPv4Address(number & 0xFFFF_FFFF)
    if address in _LOCAL_NAT64:
        yield from _translated(number)


def _translated(number: int) -> Iterator[IPv4Address]:
    """RFC 6052 section 2.2, for the lengths that fit into a /48: bits 64 to 71 are left out."""
    octets = number.to_bytes(16)
    yield IPv4Address(octets[6:8] + octets[9:11])  # /48
    yield IPv4Address(octets[7:8] + octets[9:12])  # /56
    yield IPv4Address(octets[9:13])  # /64
    yield IPv4Address(octets[12:16])  # /96


def is_local(host: str) -> bool:
    """True for a host that is this machine, by its name or address."""
    name = host.rstrip(".").casefold()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return any(address.is_loopback for address in forms(ip_address(name)))
    except ValueError:
        return False
