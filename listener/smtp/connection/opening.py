"""The beginning of a connection: the client's address, its admission, and its greeting."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Protocol

from functions.ids import uuid7
from listener import proxy
from listener.api.decision import Reply
from listener.api.session import Session, address_text
from listener.flows.flow import ConnectionState
from listener.mailauth.dns.iprev import FoundName, NameSearch
from listener.smtp.connection.pending import Pending
from listener.smtp.connection.stream import Stream
from listener.smtp.connection_limits import Ticket
from listener.smtp.endpoint import Endpoint
from listener.smtp.replies import CONNECT_FAULT, EARLY_TALKER

log = logging.getLogger("smtp_relay.smtp")

_HELLO: Final = re.compile(rb"(?:EHLO|HELO|LHLO)\b[^\n]{0,300}\n", re.IGNORECASE)
"""The only bytes that may follow a PROXY header before the greeting, because the health checks of older
HAProxys send them there."""


class OpeningHost(Protocol):
    """The interface that the beginning needs from its connection."""

    endpoint: Endpoint
    loop: asyncio.AbstractEventLoop
    session: Session
    stream: Stream
    flows: ConnectionState
    pending: Pending

    def finish(self, reply: Reply | None, *, linger: bool = False) -> None: ...
    def touch(self) -> None: ...
    def start_tls(self, done: Callable[[], None]) -> None: ...
    def read_proxy_header(self) -> None: ...
    def wait(self) -> None: ...
    def use(self, flows: ConnectionState) -> None: ...
    def greet(self) -> None: ...


class Opening:
    """The beginning of one connection, and its results: the place that the connection takes among the
    limits, and the search for the client's name.

    `trusted_as` is the address by which XCLIENT and XFORWARD are permitted: the peer's, or that of
    the PROXY header.
    """

    __slots__ = (
        "_counted",
        "_host",
        "_name_told",
        "_proxied",
        "_search",
        "_ticket",
        "_vouched",
        "trusted_as",
    )

    def __init__(self, host: OpeningHost) -> None:
        self._host = host
        self.trusted_as = host.session.ip
        self._ticket: Ticket | None = None
        self._counted = False
        self._search: NameSearch | None = None
        self._name_told = False
        self._proxied = False
        self._vouched: str | None = None

    def start(self) -> None:
        """A transport is there."""
        host, endpoint = self._host, self._host.endpoint
        if endpoint.proxies is not None and endpoint.proxies(self.trusted_as):
            # It is counted before it names its client, because it may never do so.
            host.read_proxy_header()
            if self._count_in(endpoint.admissions.hold()) is not None:
                host.finish(None)
        else:
            self._begin()

    def take_proxy_header(self) -> bool:
        """Take the PROXY header from the stream; False while it is not complete, or if it is missing."""
        host, endpoint, session = self._host, self._host.endpoint, self._host.session
        try:
            header = proxy.parse(host.stream.peek())
        except proxy.BadHeader as error:
            endpoint.refusals.no_proxy_header(session, error)
            host.finish(None)
            return False
        if header is None:
            return False
        host.stream.skip(header.length)
        self._proxied = True
        if header.endpoints is not None:
            client, server = header.endpoints
            session.become(*client)
            session.reached(*server)
            self.trusted_as = client[0]
        self._begin()
        return True

    def again(self, *, vouched: str | None, name_told: bool) -> None:
        """XCLIENT replaced the client: begin again with the greeting. `vouched` is the user that it
        states as logged in; `name_told` says that it gave the client's name, or that it has none."""
        self.cancel()
        self._vouched = vouched
        self._name_told = name_told
        if (refusal := self._admit()) is not None:
            self._host.finish(refusal)
        else:
            self._meet()

    @property
    def name_pending(self) -> bool:
        """True if the search for the client's name goes on."""
        return self._search is not None and self._search.running

    async def name_found(self) -> None:
        """Wait until the client's name is found, or not; that takes seconds at most."""
        if self._search is not None:
            await self._search.wait()

    def cancel(self) -> None:
        """Stop the search for the client's name."""
        if self._search is not None:
            self._search.cancel()
            self._search = None

    def leave(self) -> bool:
        """Release the place among the limits. Returns true if the client had been admitted."""
        if self._ticket is not None:
            self._ticket.leave()
            self._ticket = None
        counted, self._counted = self._counted, False
        return counted

    def _begin(self) -> None:
        """The client's address is final: admit it, and encrypt from the start if configured."""
        host = self._host
        host.touch()
        refusal = self._admit()
        if host.endpoint.options.secure:
            if refusal is None:
                host.start_tls(self._meet)
            else:
                host.finish(None)  # in clear text, the client could not read it
        elif refusal is not None:
            host.finish(refusal)
        else:
            self._meet()

    def _admit(self) -> Reply | None:
        """Count the connection in under its client's address, or return the reply that refuses it."""
        endpoint = self._host.endpoint
        if self._ticket is not None:
            self._ticket.leave()
            self._ticket = None
        refusal = self._count_in(endpoint.admissions.enter(self._host.session.ip))
        if refusal is None and not self._counted:
            self._counted = True
            endpoint.observer.connection_opened(endpoint.name)
        return refusal

    def _count_in(self, admitted: Ticket | Reply) -> Reply | None:
        if isinstance(admitted, Ticket):
            self._ticket = admitted
            return None
        endpoint = self._host.endpoint
        endpoint.observer.connection_refused(endpoint.name, "limit")
        return admitted

    def _meet(self) -> None:
        """Find the client's name, ask the filters about it, and greet it (or do not)."""
        host = self._host
        host.wait()
        names = host.endpoint.names
        if names is not None and not self._name_told:
            found = names.known(host.session.ip)
            if found is not None:
                host.session.named(*found)
            elif host.endpoint.needs_names:
                host.pending.settle(names.find(host.session.ip), self._named)
                return
            else:
                # No filter reads the name before the mail comes in, so DATA waits for it.
                self._search = NameSearch(names, host.session, host.loop)
        self._connect()

    def _named(self, found: FoundName) -> None:
        self._host.session.named(*found)
        self._connect()

    def _connect(self) -> None:
        host = self._host
        try:
            flows = host.endpoint.flows.connection(host.session)
            host.use(flows)
            outcome = flows.connect()
            if outcome is None:
                self._greet(None)
            else:
                host.pending.settle(outcome, self._greet)
        except Exception:
            log.exception("fault while greeting", extra={"session": host.session.id})
            host.finish(CONNECT_FAULT)

    def _greet(self, refusal: Reply | None) -> None:
        host = self._host
        if refusal is not None:
            host.endpoint.refusals.client(host.session, "filters", refusal)
            host.finish(refusal)
        elif host.stream.waiting and not (self._proxied and _HELLO.fullmatch(host.stream.peek())):
            if proxy.begins(host.stream.peek()):
                host.endpoint.refusals.untrusted_proxy(host.session)
            host.endpoint.refusals.client(host.session, "early", EARLY_TALKER)
            host.finish(EARLY_TALKER, linger=True)
        else:
            if self._vouched is not None:
                host.flows.vouch(self._vouched)
                self._vouched = None
            host.greet()


def new_session(endpoint: Endpoint, transport: Any) -> Session:
    """The facts about a client when its transport is there."""
    ip, port = _address(transport.get_extra_info("peername"))
    server = _own_address(transport.get_extra_info("sockname"))
    return Session(uuid7(), endpoint.name, ip, port, f"[{ip}]", server, lmtp=endpoint.options.lmtp)


@lru_cache(maxsize=64)  # a server has few addresses
def _own_address(end: Any) -> str:
    return address_text(*_address(end))


def _address(end: Any) -> tuple[str, int]:
    """A socket's end as canonical address and port; an IPv4-mapped address is IPv4."""
    ip = str(end[0]) if end else ""
    if ip.startswith("::ffff:") and "." in ip:
        ip = ip[7:]
    return ip.partition("%")[0], int(end[1]) if end and len(end) > 1 else 0
