"""The PROXY header: its valid forms, the moment of reading, and invalid forms."""

from __future__ import annotations

import contextlib
import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.proxy import MAX_V1, MAX_V2, SIGNATURE, BadHeader, Endpoints, Header, parse


def v2(command: int, family: int, body: bytes, *, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return SIGNATURE + bytes([command, family]) + size.to_bytes(2) + body


def tcp4(source: str, target: str, source_port: int, target_port: int, tlvs: bytes = b"") -> bytes:
    ports = source_port.to_bytes(2) + target_port.to_bytes(2)
    return v2(0x21, 0x11, socket.inet_aton(source) + socket.inet_aton(target) + ports + tlvs)


def tcp6(source: str, target: str, source_port: int, target_port: int, tlvs: bytes = b"") -> bytes:
    ports = source_port.to_bytes(2) + target_port.to_bytes(2)
    packed = [socket.inet_pton(socket.AF_INET6, one) for one in (source, target)]
    return v2(0x21, 0x21, b"".join(packed) + ports + tlvs)


TLVS = b"\x04\x00\x03abc" + b"\xee\x00\x16\x01vpce-08d2bf15fac5001c9"

GOOD = [
    (
        b"PROXY TCP4 192.0.2.7 198.51.100.2 56324 25\r\n",
        Endpoints(("192.0.2.7", 56324), ("198.51.100.2", 25)),
    ),
    (b"PROXY TCP6 2001:DB8::7 2001:db8:0::2 1 465\r\n", Endpoints(("2001:db8::7", 1), ("2001:db8::2", 465))),
    (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", Endpoints(("192.0.2.7", 1), ("::1", 2))),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff::1 whatever 65535 0\r\n", None),
    (
        tcp4("192.0.2.7", "198.51.100.2", 56324, 25),
        Endpoints(("192.0.2.7", 56324), ("198.51.100.2", 25)),
    ),
    (
        tcp4("192.0.2.7", "198.51.100.2", 56324, 25, TLVS),
        Endpoints(("192.0.2.7", 56324), ("198.51.100.2", 25)),
    ),
    (tcp6("2001:db8::7", "::1", 9, 25, TLVS), Endpoints(("2001:db8::7", 9), ("::1", 25))),
    (tcp6("::ffff:192.0.2.7", "::ffff:192.0.2.1", 9, 25), Endpoints(("192.0.2.7", 9), ("192.0.2.1", 25))),
    (v2(0x20, 0x00, b""), None),
    (v2(0x20, 0x11, bytes(12)), None),
    (v2(0x20, 0x00, TLVS), None),
    (v2(0x21, 0x00, b""), None),
    (v2(0x21, 0x31, bytes(216)), None),
    (tcp4("192.0.2.7", "192.0.2.1", 1, 2, bytes(MAX_V2 - 28)), Endpoints(("192.0.2.7", 1), ("192.0.2.1", 2))),
]


@pytest.mark.parametrize(("octets", "endpoints"), GOOD)
def test_whole_headers_in_every_piece(octets: bytes, endpoints: Endpoints | None) -> None:
    for after in (b"", b"EHLO x\r\n", b"\x16\x03\x01"):
        assert parse(octets + after) == Header(len(octets), endpoints)
    step = 1 if len(octets) < 300 else 97
    assert all(parse(octets[:cut]) is None for cut in range(0, len(octets), step))


BAD = [
    b"EHLO client.example\r\n",
    b"\x16\x03\x01\x02\x00\x01",
    b"PROXX",
    b"proxy TCP4 192.0.2.7 198.51.100.2 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.2 1 2\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.2 1\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.2 1 65536\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.2 -1 2\r\n",
    b"PROXY TCP4 192.0.2.007 198.51.100.2 1 2\r\n",
    b"PROXY TCP4 192.0.2.256 198.51.100.2 1 2\r\n",
    b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
    b"PROXY TCP6 192.0.2.7 198.51.100.2 1 2\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    b"PROXY TCP4  192.0.2.7 198.51.100.2 1 2\r\n",
    b"PROXY UDP4 192.0.2.7 198.51.100.2 1 2\r\n",
    b"PROXY UNKNOWNX\r\n",
    b"PROXY \r\n",
    b"PROXY " + b"x" * (MAX_V1 - 6),
    b"PROXY UNKNOWN " + b"x" * 200 + b"\r\n",
    v2(0x11, 0x11, bytes(12)),
    v2(0x22, 0x11, bytes(12)),
    v2(0x21, 0x12, bytes(12)),
    v2(0x21, 0x99, bytes(12)),
    v2(0x21, 0x11, bytes(11)),
    v2(0x21, 0x21, bytes(35)),
    v2(0x21, 0x11, b"", length=65_535),
    v2(0x20, 0x00, b"", length=MAX_V2 - 15),
]


@pytest.mark.parametrize("octets", BAD)
def test_what_is_no_header(octets: bytes) -> None:
    with pytest.raises(BadHeader):
        parse(octets)


ports = st.integers(0, 65_535)


@given(st.ip_addresses(), st.ip_addresses(), ports, ports, st.binary(max_size=300), st.binary(max_size=50))
def test_addresses_come_back(client, server, port, our_port, tlvs, after) -> None:  # type: ignore[no-untyped-def]
    if client.version != server.version:
        server = client
    pack = tcp4 if client.version == 4 else tcp6
    header = pack(str(client), str(server), port, our_port, tlvs)
    found = parse(header + after)
    assert found is not None
    assert found.length == len(header)
    assert found.endpoints is not None
    assert found.endpoints.client == (_canonical(client), port)
    assert found.endpoints.server == (_canonical(server), our_port)
    line = f"PROXY TCP{client.version} {client} {server} {port} {our_port}\r\n".encode()
    assert parse(line + after) == Header(len(line), found.endpoints)


def _canonical(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    return str(getattr(address, "ipv4_mapped", None) or address)


beginnings = st.sampled_from(
    [b"", b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ", SIGNATURE, SIGNATURE + b"\x21\x11"]
)


@given(beginnings, st.binary(max_size=200))
def test_anything_else_is_bad_or_not_complete(start: bytes, rest: bytes) -> None:
    with contextlib.suppress(BadHeader):
        found = parse(start + rest)
        assert found is None or found.length <= len(start + rest)
