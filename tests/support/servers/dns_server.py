"""A name server on loopback, UDP and TCP, that serves a zone as listener/mailauth/dns/zone.py has it.

It answers as a recursive resolver does: aliases are followed, and a loop is SERVFAIL. Besides the
zone's behaviours (SERVFAIL, REFUSED, NXDOMAIN, TIMEOUT) it knows LATE (an answer a second later),
LIE (an answer of another id, then one of another name), GARBAGE (bytes that are not a message),
EMPTY (an empty datagram) and CLOSE (TCP: the connection is closed).
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Mapping
from typing import Any, Final, Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rdata import Rdata
from dns.rdtypes.ANY.TXT import TXT

from tests.support.net import HOST

CHAIN: Final = 12
SOA: Final = "ns.example. hostmaster.example. 1 3600 600 86400 {ttl}"
BEHAVIOURS: Final = ("SERVFAIL", "REFUSED", "NXDOMAIN", "TIMEOUT", "LATE", "LIE", "GARBAGE", "EMPTY", "CLOSE")


class DnsServer:
    """Serve `zone`, which may be replaced at any time. `queries` lists (name, type, transport).

    Questions for names below the domain `silent` get no answer.

    `ttl` is that of every record, `minimum` the SOA record's MINIMUM where it differs, and `soa` the
    owner of that record in negative answers: None leaves it out.
    """

    def __init__(self, zone: Mapping[str, Mapping[str, Any]] | None = None, *, ttl: int = 0) -> None:
        self.zone: Mapping[str, Mapping[str, Any]] = zone or {}
        self.ttl = ttl
        self.minimum: int | None = None
        self.soa: str | None = "."
        self.silent: str | None = None
        self.queries: list[tuple[str, str, str]] = []
        self._stopping = threading.Event()
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._tcp = socket.socket()
        for _ in range(50):
            self._udp.bind((HOST, 0))
            self.port: int = self._udp.getsockname()[1]
            with contextlib.suppress(OSError):
                self._tcp.bind((HOST, self.port))
                break
            self._udp.close()
            self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._tcp.listen(64)
        self._threads = [
            threading.Thread(target=self._serve_udp, daemon=True),
            threading.Thread(target=self._serve_tcp, daemon=True),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", (HOST, self.port))
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 1):
            pass
        for thread in self._threads:
            thread.join(5)
        self._udp.close()
        self._tcp.close()

    # -- transports -----------------------------------------------------------------------------

    def _serve_udp(self) -> None:
        while not self._stopping.is_set():
            data, peer = self._udp.recvfrom(65_535)
            if not data or self._stopping.is_set():
                continue
            for delay, answer in self._answers(data, "udp"):
                if delay:
                    timer = threading.Timer(delay, self._send, (answer, peer))
                    timer.daemon = True
                    timer.start()
                else:
                    self._send(answer, peer)

    def _send(self, answer: bytes, peer: tuple[str, int]) -> None:
        with contextlib.suppress(OSError):
            self._udp.sendto(answer, peer)

    def _serve_tcp(self) -> None:
        while not self._stopping.is_set():
            connection, _ = self._tcp.accept()
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, struct.error):
            connection.settimeout(5)
            stream = connection.makefile("rb")
            while header := stream.read(2):
                data = stream.read(struct.unpack("!H", header)[0])
                for delay, answer in self._answers(data, "tcp"):
                    time.sleep(delay)
                    connection.sendall(struct.pack("!H", len(answer)) + answer)

    # -- answers --------------------------------------------------------------------------------

    def _answers(self, data: bytes, transport: str) -> list[tuple[float, bytes]]:
        """The answers, each after so many seconds."""
        query = dns.message.from_wire(data)
        question = query.question[0]
        type_ = dns.rdatatype.to_text(question.rdtype)
        name = b".".join(question.name.labels[:-1]).decode("latin-1")
        self.queries.append((name.lower(), type_, transport))
        if self.silent is not None and name.lower().endswith(f".{self.silent}"):
            return []
        response, behaviour = self._respond(query, name, type_)
        if behaviour in ("TIMEOUT", "CLOSE"):
            return []
        if behaviour == "GARBAGE":
            return [(0, b"\xff" * 40)]
        if behaviour == "EMPTY":
            return [(0, b"\0")]
        if behaviour == "LATE":
            return [(1.0, response.to_wire())]
        if behaviour == "LIE":
            lie = dns.message.from_wire(response.to_wire())
            lie.id ^= 1
            other = dns.message.make_response(dns.message.make_query("other.example", type_))
            other.id = query.id
            return [(0, lie.to_wire()), (0, other.to_wire())]
        limit = 65_535 if transport == "tcp" else max(512, query.payload)
        wire = _wire(response)
        if len(wire) > limit:
            short = dns.message.make_response(query)
            short.flags |= dns.flags.TC
            wire = short.to_wire()
        return [(0, wire)]

    def _respond(
        self, query: dns.message.QueryMessage, name: str, type_: str
    ) -> tuple[dns.message.Message, str]:
        response = dns.message.make_response(query, recursion_available=True)
        zone = {key.lower().removesuffix("."): value for key, value in self.zone.items()}
        for _ in range(CHAIN):
            types = zone.get(name.lower())
            if types is None:
                return self._negative(response, dns.rcode.NXDOMAIN), ""
            values = types.get(type_, types.get("*"))
            if isinstance(values, str):
                if values in ("SERVFAIL", "REFUSED"):
                    response.set_rcode(dns.rcode.from_text(values))
                elif values == "NXDOMAIN":
                    self._negative(response, dns.rcode.NXDOMAIN)
                return response, values
            if values:
                self._add(response, name, type_, [_rdata(type_, value) for value in values])
                return response, ""
            alias = types.get("CNAME")
            if not alias:
                return self._negative(response, dns.rcode.NOERROR), ""
            self._add(response, name, "CNAME", [_rdata("CNAME", alias[0])])
            name = str(alias[0]).removesuffix(".")
        response.answer.clear()
        response.set_rcode(dns.rcode.SERVFAIL)
        return response, ""

    def _add(
        self, response: dns.message.Message, name: str, type_: str, rdatas: list[dns.rdata.Rdata]
    ) -> None:
        owner = dns.name.Name([*name.encode("latin-1").split(b"."), b""])
        rrset = dns.rrset.RRset(owner, dns.rdataclass.IN, dns.rdatatype.from_text(type_))
        for rdata in rdatas:
            rrset.add(rdata, self.ttl)
        response.answer.append(rrset)

    def _negative(self, response: dns.message.Message, rcode: dns.rcode.Rcode) -> dns.message.Message:
        response.set_rcode(rcode)
        if self.soa is not None:
            minimum = self.ttl if self.minimum is None else self.minimum
            soa = dns.rrset.from_text(self.soa, self.ttl, "IN", "SOA", SOA.format(ttl=minimum))
            response.authority.append(soa)
        return response


def _wire(response: dns.message.Message) -> bytes:
    try:
        return response.to_wire(max_size=65_535)
    except dns.exception.TooBig:
        response.flags |= dns.flags.TC
        return response.to_wire(max_size=65_535, prefer_truncation=True)


def _rdata(type_: str, value: Any) -> Rdata:
    rdtype = dns.rdatatype.from_text(type_)
    if type_ == "TXT":
        # A record has one string at least, and strings have 255 bytes at most.
        parts = (value or [""]) if isinstance(value, list) else [value]
        cut = [part[at : at + 255] for part in map(_octets, parts) for at in range(0, len(part) or 1, 255)]
        return TXT(dns.rdataclass.IN, rdtype, cut)
    if type_ == "MX":
        preference, host = value if isinstance(value, (list, tuple)) else str(value).split()
        text = f"{preference} {_host(host)}"
    elif type_ in ("PTR", "CNAME"):
        text = _host(value)
    else:
        text = str(value)
    return dns.rdata.from_text(dns.rdataclass.IN, rdtype, text)


def _octets(part: Any) -> bytes:
    return part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape")


def _host(name: Any) -> str:
    return str(name).removesuffix(".") + "."
