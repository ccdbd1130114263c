"""Clients' names: the address's reverse name, if that name resolves back to the address.

The holder of an address writes its reverse zone and may claim any name, so a name counts only if its own
records hold the address (RFC 8601 section 2.7.3 calls this iprev).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from listener.api.session import Session
from listener.mailauth.dns.resolver import DnsAnswer, Question, failed, resolve_all, resolve_one

if TYPE_CHECKING:
    from collections.abc import Callable

    from listener.mailauth.dns.resolver import RecordType, Resolver

log = logging.getLogger("smtp_relay.smtp")

PATIENCE: Final = 5.0
"""Seconds to find and confirm a name, all queries together."""

MAX_NAMES: Final = 5
"""Most reverse names to try; more than a few are a mistake or an attack."""

MAX_ENTRIES: Final = 8_192

_KEPT: Final = 300.0  # seconds to keep an address's name
_KEPT_ABSENT: Final = 60.0  # seconds to keep the absence of a name
_KEPT_UNSURE: Final = 5.0  # seconds without another query after a failed search

_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*(?!\d+\Z)[a-z0-9][a-z0-9-]{0,61}[a-z0-9]"
)


def bare(ip: str) -> str:
    """The text that replaces a missing name."""
    return f"[{ip}]"


class FoundName(NamedTuple):
    """The result of a search: the name, or `[ip]`. `sure` is False if an answer is missing: the result
    may change later."""

    name: str
    sure: bool = True


class Nobody:
    """A resolver without name servers."""

    def known(self, question: Question) -> DnsAnswer | None:
        return failed("no name server")

    async def resolve(self, question: Question) -> DnsAnswer:
        return failed("no name server")


def system_resolver() -> Resolver:
    """The system's name servers. Raises ValueError when it names none."""
    from listener.mailauth.dns.client import DnsResolver

    return DnsResolver(timeout=PATIENCE / 2)


LOCALHOST: Final = FoundName("localhost")


class ReverseNames:
    """Finds clients' names and keeps them for a few minutes. Serves one event loop.

    The first search or `prepare` calls `make_resolver`, which raises ValueError if there is no name
    server.
    """

    def __init__(self, make_resolver: Callable[[], Resolver], *, patience: float = PATIENCE) -> None:
        self._make_resolver = make_resolver
        self._resolver: Resolver | None = None
        self._patience = patience
        self._known: OrderedDict[str, tuple[float, FoundName]] = OrderedDict()

    def prepare(self) -> None:
        """Load the DNS library and make the resolver, because that takes a moment."""
        if self._resolver is None:
            try:
                self._resolver = self._make_resolver()
            except ValueError as error:
                log.warning("clients' names cannot be looked up: %s", error)
                self._resolver = Nobody()

    def known(self, ip: str) -> FoundName | None:
        """The name if it is known without waiting, else None. Clients of this machine are `localhost`
        without a query."""
        if ip.startswith("127.") or ip == "::1":
            return LOCALHOST
        entry = self._known.get(ip)
        if entry is None or entry[0] < time.monotonic():
            return None
        self._known.move_to_end(ip)
        return entry[1]

    async def close(self) -> None:
        """Stop the running queries."""
        close = getattr(self._resolver, "close", None)
        if close is not None:
            await close()

    async def find(self, ip: str) -> FoundName:
        """The confirmed name. Never raises, and takes at most PATIENCE seconds."""
        found = FoundName(bare(ip), sure=False)
        try:
            async with asyncio.timeout(self._patience):
                found = await self._confirmed(ip)
        except TimeoutError:
            pass
        kept = _KEPT_UNSURE if not found.sure else _KEPT_ABSENT if found.name == bare(ip) else _KEPT
        self._known[ip] = (time.monotonic() + kept, found)
        self._known.move_to_end(ip)
        if len(self._known) > MAX_ENTRIES:
            self._known.popitem(last=False)
        return found

    async def _confirmed(self, ip: str) -> FoundName:
        self.prepare()
        assert self._resolver is not None
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            return FoundName(bare(ip))
        reverse = await resolve_one(self._resolver, Question(address.reverse_pointer, "PTR"))
        names = [name for name in map(str, reverse.records) if _NAME.fullmatch(name)][:MAX_NAMES]
        kind: RecordType = "A" if address.version == 4 else "AAAA"
        questions = {Question(name, kind): name for name in names}
        answers = await resolve_all(self._resolver, questions)
        for question, answer in answers.items():
            if any(_same(record, address) for record in answer.records):
                return FoundName(questions[question])
        sure = not reverse.failed and not any(answer.failed for answer in answers.values())
        return FoundName(bare(ip), sure)


def _same(record: object, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return ipaddress.ip_address(str(record)) == address
    except ValueError:
        return False


class NameSearch:
    """The search for one client's name, concurrent with its connection. It writes its result into the
    session."""

    __slots__ = ("_session", "_task")

    def __init__(self, names: ReverseNames, session: Session, loop: asyncio.AbstractEventLoop) -> None:
        self._session = session
        self._task: asyncio.Task[FoundName] | None = loop.create_task(names.find(session.ip))
        self._task.add_done_callback(self._found)

    @property
    def running(self) -> bool:
        """True if the search is still running."""
        return self._task is not None

    async def wait(self) -> None:
        """Wait until the search ends, at most PATIENCE seconds."""
        if self._task is not None:
            await asyncio.wait((self._task,))

    def cancel(self) -> None:
        """Stop the search; the session keeps its current name."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    def _found(self, task: asyncio.Task[FoundName]) -> None:
        if self._task is task:
            self._task = None
            if not task.cancelled():
                self._session.named(*task.result())
