"""The production resolver: dnspython's, with a cache, and one query at a time for each question."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.query
import dns.rdata
import dns.rdatatype
import dns.resolver

from listener.api.network import network_of
from listener.mailauth.dns.cache import Cache
from listener.mailauth.dns.places import QueryPlaces
from listener.mailauth.dns.resolver import (
    MAX_RECORDS,
    DnsAnswer,
    Holds,
    Outcome,
    Question,
    Record,
    RecordType,
    Resolver,
    failed,
)

EDNS_PAYLOAD: Final = 1_232
"""Most bytes of an answer over UDP, else TCP: the size that passes without fragmentation (DNS Flag Day
2020)."""

MAX_ANSWER_RECORDS: Final = 512
"""Most records of one answer, in all sections, to parse."""

PARSED_AT_ONCE: Final = 4_096
"""Up to this size in bytes an answer is parsed in the event loop."""

DEFAULT_TIMEOUT: Final = 5.0
"""Seconds for one question, with retries, other servers and TCP."""

_CROWDED: Final = 0.5
"""From this part of free places on, fewer free places mean less time for a question."""

_LEAST_TIME: Final = 0.2
"""The part of its time that a question has when no place is free."""


class DnsResolver:
    """Answers from the system's name servers, or from the given ones.

    `nameservers` are addresses, `timeout` is in seconds. One instance serves one event loop. Raises
    ValueError if no name server is given and the system has none.
    """

    def __init__(
        self, nameservers: Sequence[str] = (), port: int = 53, timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        try:
            self._dns = dns.asyncresolver.Resolver(configure=not nameservers)
        except (dns.resolver.NoResolverConfiguration, OSError) as error:
            raise ValueError("the system names no name server; give some in resolver.nameservers") from error
        found = nameservers or [str(server) for server in self._dns.nameservers]
        self._dns.nameservers = [_Server(address, port) for address in found]
        self._dns.lifetime = timeout
        # A silent server must leave time for the next one, or for a retry.
        self._dns.timeout = max(timeout / 2.5, 0.05)
        self._dns.use_edns(0, 0, EDNS_PAYLOAD)
        self._dns.cache = None
        self._places = QueryPlaces()
        self._tasks: dict[Question, asyncio.Task[DnsAnswer]] = {}
        self.cache = Cache()
        self.known: Callable[[Question], DnsAnswer | None] = self.cache.get
        """The cached answer, without another call: every question of every mail begins with it."""
        self.holds: Holds = self.cache.holds
        """True while all these answers are cached."""

    def for_client(self, address: str) -> Resolver:
        """The same resolver for the mail of one client, which gets only a share of the places."""
        return _ForClient(self, network_of(address))

    async def resolve(self, question: Question, client: str = "") -> DnsAnswer:
        """The answer. The query takes one of the places of `client`."""
        answer = self.cache.get(question)
        if answer is not None:
            return answer
        task = self._tasks.get(question)
        if task is None:
            # A question joins a running query only. It never waits behind those of another client.
            await self._places.acquire(client)
            answer, task = self.cache.get(question), self._tasks.get(question)
            if answer is not None or task is not None:
                self._places.release(client)
                if answer is not None:
                    return answer
        if task is None:
            task = asyncio.get_running_loop().create_task(self._ask(question))
            self._tasks[question] = task
            task.add_done_callback(lambda _: self._done(question, client))
        # If one waiter gives up, the others must still get the answer.
        return await asyncio.shield(task)

    def _done(self, question: Question, client: str) -> None:
        self._tasks.pop(question, None)
        self._places.release(client)

    async def close(self) -> None:
        """Stop the running queries."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, question: Question) -> DnsAnswer:
        try:
            # From its labels, because a backslash is an escape in text form.
            name = dns.name.Name([*question.name.encode("ascii").split(b"."), b""])
        except (dns.exception.DNSException, UnicodeError):
            return DnsAnswer(Outcome.ABSENT)
        answer = await self._query(name, question.type)
        self.cache.put(question, answer)
        return answer

    async def _query(self, name: dns.name.Name, type_: RecordType) -> DnsAnswer:
        # Silent name servers hold places, hence for a shorter time while places are short.
        lifetime = self._dns.lifetime * min(max(self._places.free / _CROWDED, _LEAST_TIME), 1.0)
        try:
            found = await self._dns.resolve(
                name, type_, raise_on_no_answer=False, search=False, lifetime=lifetime
            )
        except dns.resolver.NXDOMAIN as error:
            return DnsAnswer(Outcome.ABSENT, ttl=_negative_ttl(error.response(name)))  # type: ignore[no-untyped-call]
        except dns.exception.Timeout:
            return failed("no name server answered in time")
        except dns.resolver.NoNameservers:
            return failed("no name server gave an answer")
        except Exception as error:  # noqa: BLE001 - a stranger's server must not break the relay
            return failed(type(error).__name__)
        records = tuple(_record(rdata, type_) for rdata in list(found.rrset or ())[:MAX_RECORDS])
        if not records:
            return DnsAnswer(Outcome.EMPTY, ttl=_negative_ttl(found.response))
        return DnsAnswer(Outcome.FOUND, records, max(found.expiration - time.time(), 0.0))


class _ForClient:
    """The resolver as one client's mail sees it."""

    __slots__ = ("_client", "_dns", "known")

    def __init__(self, dns: DnsResolver, client: str) -> None:
        self._dns = dns
        self._client = client
        self.known = dns.known

    async def resolve(self, question: Question) -> DnsAnswer:
        return await self._dns.resolve(question, self._client)


class _Server(dns.nameserver.Do53Nameserver):
    """dnspython's resolver, but a thread parses long answers.

    4,000 records in 64 KB take a fifth of a second to parse, and the sender of a mail can choose them.
    """

    async def async_query(
        self,
        request: dns.message.QueryMessage,
        timeout: float,
        source: str | None,
        source_port: int,
        max_size: bool,
        backend: Any,
        one_rr_per_rrset: bool = False,
        ignore_trailing: bool = False,
    ) -> dns.message.Message:
        if not max_size:  # UDP: our EDNS payload bounds it
            return await super().async_query(
                request, timeout, source, source_port, max_size, backend, one_rr_per_rrset, ignore_trailing
            )
        try:
            async with asyncio.timeout(timeout):
                data = await self._over_tcp(request.to_wire())
        except TimeoutError as error:
            raise dns.exception.Timeout from error
        if sum(struct.unpack_from("!3H", data.ljust(12, b"\0"), 6)) > MAX_ANSWER_RECORDS:
            raise dns.exception.FormError
        if len(data) > PARSED_AT_ONCE:
            response = await asyncio.to_thread(dns.message.from_wire, data)
        else:
            response = dns.message.from_wire(data)
        if not request.is_response(response):
            raise dns.query.BadResponse
        return response

    async def _over_tcp(self, query: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(self.address, self.port)
        try:
            writer.write(struct.pack("!H", len(query)) + query)
            (size,) = struct.unpack("!H", await reader.readexactly(2))
            return await reader.readexactly(size)
        finally:
            writer.close()


class SharedResolver:
    """Shares one resolver per process among filters with the same servers."""

    _users: ClassVar[dict[SharedResolver, int]] = {}
    _resolvers: ClassVar[dict[SharedResolver, DnsResolver]] = {}

    def __init__(self, nameservers: Sequence[str], port: int, timeout: float) -> None:
        self._key = (tuple(nameservers), port, timeout)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SharedResolver) and other._key == self._key

    def __hash__(self) -> int:
        return hash(self._key)

    def acquire(self) -> DnsResolver:
        """The resolver, created if missing. Raises ValueError as DnsResolver does."""
        if self not in self._resolvers:
            self._resolvers[self] = DnsResolver(*self._key)
        self._users[self] = self._users.get(self, 0) + 1
        return self._resolvers[self]

    async def release(self) -> None:
        """Release the resolver; the last user closes it."""
        self._users[self] -= 1
        if not self._users[self]:
            del self._users[self]
            await self._resolvers.pop(self).close()


def _record(rdata: Any, type_: RecordType) -> Record:
    if type_ == "TXT":
        return b"".join(rdata.strings)
    if type_ == "MX":
        return int(rdata.preference), _name(rdata.exchange)
    if type_ == "PTR":
        return _name(rdata.target)
    return str(rdata.address)


def _name(name: dns.name.Name) -> str:
    """A name as text; "" for the root and for a name that needs escapes."""
    labels = name.labels[:-1]
    if any(b"." in label or not label.isascii() for label in labels):
        return ""
    return b".".join(labels).decode("ascii").lower()


def _negative_ttl(response: dns.message.QueryMessage) -> float:
    """Seconds to keep an absence: the lesser of the TTL and the MINIMUM of the zone's SOA record, and of
    the TTLs of the aliases that lead there. 0 without that record (RFC 2308 section 5)."""
    chain = response.resolve_chaining()
    zones = [found.name for found in response.authority if found.rdtype == dns.rdatatype.SOA]
    return float(chain.minimum_ttl) if any(map(chain.canonical_name.is_subdomain, zones)) else 0.0
