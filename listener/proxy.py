"""The PROXY header, versions 1 and 2 (HAProxy's proxy-protocol.txt): the client's real address."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Final, NamedTuple

MAX_V1: Final = 107
"""Bytes of a version 1 header with its CRLF: section 2.1."""

MAX_V2: Final = 4096
"""Most bytes of a version 2 header. 16 bits could state more than any load balancer sends: addresses
take 36 bytes, and the TLVs after them are a name, an id or a certificate's subject."""

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"

_FIRST: Final = b"PROXY "

_V1: Final = re.compile(rb"PROXY (TCP4|TCP6) (\S{1,39}) (\S{1,39}) ([0-9]{1,5}) ([0-9]{1,5})\r\n")

_LOCAL, _PROXY = 0x20, 0x21  # section 2.2: version in the upper half, command in the lower
_TCP4, _TCP6 = 0x11, 0x21  # address family in the upper half, stream in the lower
_UNSPEC: Final = frozenset({0x00, 0x31, 0x32})  # unknown, or Unix sockets


class BadHeader(ValueError):
    """The bytes are not a PROXY header."""


class Endpoints(NamedTuple):
    """The two ends of the client's connection; addresses in canonical text."""

    client: tuple[str, int]
    server: tuple[str, int]


class Header(NamedTuple):
    """A whole header: its length, and the endpoints; None if it names none (LOCAL, UNKNOWN), and then
    those of the connection itself count."""

    length: int
    endpoints: Endpoints | None


def begins(octets: bytes) -> bool:
    """True if the bytes begin with the start of a header of either version."""
    return octets.startswith((SIGNATURE, _FIRST))


def may_begin(octets: bytes) -> bool:
    """True if the bytes are the start of a header, or can become one with more bytes."""
    return any(first.startswith(octets[: len(first)]) for first in (SIGNATURE, _FIRST))


def parse(octets: bytes) -> Header | None:
    """Read the header that the bytes begin with; None while it is not complete. Raises BadHeader as
    soon as the bytes cannot be a header, and for one longer than MAX_V1 or MAX_V2."""
    if octets.startswith(SIGNATURE):
        return _version_2(octets)
    if octets.startswith(_FIRST):
        return _version_1(octets)
    if may_begin(octets):
        return None
    raise BadHeader("it begins otherwise")


def _version_1(octets: bytes) -> Header | None:
    end = octets.find(b"\n", 0, MAX_V1)
    if end < 0:
        if len(octets) >= MAX_V1:
            raise BadHeader("no end of the line")
        return None
    line = octets[: end + 1]
    if not line.endswith(b"\r\n"):
        raise BadHeader("the line ends in a bare LF")
    if line.startswith(b"PROXY UNKNOWN") and line[13:14] in (b" ", b"\r"):
        return Header(len(line), None)
    match = _V1.fullmatch(line)
    if match is None:
        raise BadHeader("malformed line")
    family, source, target, source_port, target_port = match.groups()
    version = 4 if family == b"TCP4" else 6
    return Header(
        len(line),
        Endpoints(
            (_text(source, version), _port(source_port)),
            (_text(target, version), _port(target_port)),
        ),
    )


def _text(octets: bytes, version: int) -> str:
    try:
        address = ipaddress.ip_address(octets.decode("ascii"))
    except ValueError:
        raise BadHeader("malformed address") from None
    if address.version != version:
        raise BadHeader("address of the other family")
    return canonical(address)


def _port(digits: bytes) -> int:
    port = int(digits)
    if port > 65_535:
        raise BadHeader("malformed port")
    return port


def _version_2(octets: bytes) -> Header | None:
    if len(octets) < 16:
        return None
    length = 16 + int.from_bytes(octets[14:16])
    if length > MAX_V2:
        raise BadHeader("too long")
    command, family = octets[12], octets[13]
    if command not in (_LOCAL, _PROXY):
        raise BadHeader("unknown version or command")
    if len(octets) < length:
        return None
    if command == _LOCAL or family in _UNSPEC:
        return Header(length, None)
    if family == _TCP4:
        return Header(length, _endpoints(octets[16:length], 4))
    if family == _TCP6:
        return Header(length, _endpoints(octets[16:length], 16))
    raise BadHeader("not TCP")


def _endpoints(octets: bytes, size: int) -> Endpoints:
    """The address block; the TLVs after it are ignored."""
    if len(octets) < 2 * size + 4:
        raise BadHeader("addresses are cut off")
    family = socket.AF_INET if size == 4 else socket.AF_INET6
    source, target = octets[:size], octets[size : 2 * size]
    ports = octets[2 * size : 2 * size + 4]
    return Endpoints(
        (_unpacked(family, source), int.from_bytes(ports[:2])),
        (_unpacked(family, target), int.from_bytes(ports[2:])),
    )


def _unpacked(family: int, packed: bytes) -> str:
    return canonical(ipaddress.ip_address(socket.inet_ntop(family, packed)))


def canonical(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Canonical text; an IPv4-mapped address is IPv4."""
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        if mapped is not None:
            return str(mapped)
        if address.scope_id:
            raise BadHeader("address with a zone")
    return str(address)
