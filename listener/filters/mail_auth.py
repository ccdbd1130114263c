"""`mail-auth`: SPF, DKIM, DMARC, ARC and BIMI authenticate a mail's sender (docs/mail-auth.md)."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from functions.errors import ConfigError
from functions.message.headers import Predicate
from functions.options.types import Milliseconds, OptionsModel, Port
from listener.api.decision import DEFER, Decision, Phase
from listener.api.filter import Answer, BuildContext, Filter, FilterObserver, FilterOptions, Operator
from listener.api.session import Message, Session, Transaction
from listener.logs import mail_log
from listener.mailauth import authres, forgery, policy
from listener.mailauth.check import MAX_QUERIES, TIME_LIMIT, Checks, begin
from listener.mailauth.dkim.keys import MAX_RSA_BITS
from listener.mailauth.dkim.verify import KeyRules
from listener.mailauth.dns.client import SharedResolver
from listener.mailauth.dns.resolver import SharedDns
from listener.mailauth.results import Report
from listener.mailauth.spf import Sender, SpfLimits
from listener.mailauth.verdict import Refusal, decide

log = logging.getLogger("smtp_relay.mailauth")


_HELD: Final = 0.02
"""Most seconds to hold a log line, so that one write takes it with the line of the mail's acceptance."""


def _address(text: str) -> str:
    return str(ipaddress.ip_address(text))


def _policy_record(text: str) -> str:
    record = policy.parse(text.strip().encode())
    if record is None or not record.applies:
        raise ValueError("is not a DMARC record: v=DMARC1; p=none, quarantine or reject")
    return text


class ResolverOptions(OptionsModel):
    """The name servers to query."""

    nameservers: tuple[Annotated[str, AfterValidator(_address)], ...] = ()
    """Addresses. Default: the system's."""

    port: Port = 53
    """Their port."""

    timeout: Milliseconds = Field(default=5_000, ge=10, le=60_000)
    """Time for one query, with retries and other servers."""


class MailAuthOptions(OptionsModel):
    """Options of the checks."""

    min_bit_length: int = Field(default=1_024, ge=0, le=MAX_RSA_BITS)
    """RSA keys with fewer bits do not count, for DKIM and ARC."""

    reject_rsa_sha1: bool = True
    """Signatures by rsa-sha1 do not count (RFC 8301)."""

    disable_arc: bool = False
    """Do not check ARC, which only informs."""

    disable_dmarc: bool = False
    """Do not check DMARC, nor refuse mail for it."""

    disable_bimi: bool = False
    """Do not check BIMI; it is off without DMARC."""

    max_resolve_count: int = Field(default=10, ge=0, le=100)
    """Most terms of an SPF check that query DNS (RFC 7208: 10)."""

    max_void_count: int = Field(default=2, ge=0, le=100)
    """Most answers without records in an SPF check (RFC 7208: 2)."""

    max_queries: int = Field(default=MAX_QUERIES, ge=10, le=1_000)
    """Most DNS questions of one mail; one that needs more is deferred where the answers could change the
    decision."""

    resolver: ResolverOptions = ResolverOptions()
    """The name servers to query."""


class MailAuthFilterOptions(FilterOptions):
    """Check SPF, DKIM, DMARC, ARC and BIMI."""

    model_config = ConfigDict(alias_generator=to_camel)

    type: Literal["mail-auth"]

    mailauth: MailAuthOptions = MailAuthOptions()
    """The checks."""

    enforce_dmarc: Annotated[str, AfterValidator(_policy_record)] | None = None
    """A DMARC record instead of the From domain's."""

    refuse: tuple[Refusal, ...] = ("dmarc-reject",)
    """Reasons to refuse mail."""

    asks_others = True

    @property
    def judges_content(self) -> bool:
        return True

    def described(self, operator: Operator) -> str:
        return "that passes the checks of SPF, DKIM and DMARC"

    def identifies(self, operator: Operator) -> bool:
        """It verifies the author of a mail, not that the author is known."""
        return False

    def checks(self, time_limit: float = TIME_LIMIT) -> Checks:
        """The checks that these options ask for."""
        chosen = self.mailauth
        return Checks(
            arc=not chosen.disable_arc,
            dmarc=not chosen.disable_dmarc,
            bimi=not (chosen.disable_bimi or chosen.disable_dmarc),
            keys=KeyRules(chosen.min_bit_length, chosen.reject_rsa_sha1),
            spf=SpfLimits(chosen.max_resolve_count, chosen.max_void_count),
            enforced=policy.parse(self.enforce_dmarc.strip().encode()) if self.enforce_dmarc else None,
            explain="spf-fail" in self.refuse,
            time_limit=time_limit,
            max_queries=chosen.max_queries,
        )


class MailAuthFilter(Filter):
    """Asks the DNS about each mail. One resolver serves all such filters of a process."""

    phases = frozenset({Phase.DATA})

    def __init__(
        self,
        name: str,
        checks: Checks,
        refuse: frozenset[Refusal],
        resolver: SharedDns | SharedResolver,
    ) -> None:
        super().__init__(name)
        self._checks = checks
        self._refuse = refuse
        self._shared = resolver if isinstance(resolver, SharedResolver) else None
        self._resolver: SharedDns | None = None if isinstance(resolver, SharedResolver) else resolver
        self._authserv_id = ""
        self._observer: FilterObserver | None = None
        self._flushing = False

    @property
    def authserv_id(self) -> str:
        """The relay's own name in Authentication-Results (RFC 8601 section 2.5)."""
        return self._authserv_id or socket.gethostname() or "localhost"

    def removals(self, hostname: str) -> list[tuple[str, Predicate]]:
        """Fields that would pose as the relay's; `hostname` is the listener's own name. The first
        listener's name becomes the relay's authserv-id, and no listener lets a field with it in."""
        self._authserv_id = self._authserv_id or hostname
        names = (self._authserv_id, hostname)
        return [
            ("Authentication-Results", forgery.forged(*names)),
            ("Received-SPF", forgery.forged_spf(*names)),
        ]

    def observe(self, observer: FilterObserver) -> None:
        self._observer = observer

    async def start(self) -> None:
        self._flushing = False  # a timer of another event loop may never end
        if self._shared is not None:
            try:
                self._resolver = self._shared.acquire()
            except ValueError as error:
                raise ConfigError(f"filter {self.name}", str(error)) from error

    async def stop(self) -> None:
        if self._shared is not None and self._resolver is not None:
            self._resolver = None
            await self._shared.release()

    def on_data(
        self, session: Session, transaction: Transaction, message: Message, recipients: tuple[str, ...]
    ) -> Answer:
        resolver = self._resolver
        if resolver is None:
            return DEFER  # a server whose `closeTimeout` is over stops while mails are still coming in
        us = self._authserv_id or self.authserv_id
        sender = Sender(session.ip, session.helo, transaction.reverse_path, us)
        found = begin(message, sender, resolver.for_client(session.ip), self._checks, holds=resolver.holds)
        if isinstance(found, Report):
            return self._decide(session, transaction, found, us)
        return self._awaited(session, transaction, found, us)

    async def _awaited(
        self, session: Session, transaction: Transaction, found: Awaitable[Report], us: str
    ) -> Decision:
        return self._decide(session, transaction, await found, us)

    def _decide(self, session: Session, transaction: Transaction, report: Report, us: str) -> Decision:
        self._tell(session, transaction, report)
        decision = decide(report, self._refuse)
        return Decision(
            decision.verdict,
            decision.reply,
            headers=authres.header_fields(report, us),
            results=report.to_json(),
        )

    def _tell(self, session: Session, transaction: Transaction, report: Report) -> None:
        words = report.shared.words
        if words is None:
            words = report.shared.words = summary(report), _domains(report)
        verdicts, domains = words
        if self._observer is not None:
            for method, verdict in verdicts.items():
                self._observer.mail_auth(self.name, method, verdict)
        if log.isEnabledFor(logging.INFO):
            ids = {"session": session.id, "id": transaction.id, "filter": self.name}
            if (
                mail_log.info(log, "mail authenticated", {**ids, **verdicts, **domains})
                and not self._flushing
            ):
                self._flushing = True
                asyncio.get_running_loop().call_later(_HELD, self._flush)

    def _flush(self) -> None:
        self._flushing = False
        mail_log.flush()


def summary(report: Report) -> dict[str, str]:
    """One word for each method."""
    verdicts: dict[str, str] = {"spf": report.spf.verdict, "dkim": report.dkim_verdict}
    if report.arc is not None:
        verdicts["arc"] = report.arc.verdict
    if report.dmarc:
        verdicts["dmarc"] = report.dmarc[0].verdict
    if report.bimi is not None:
        verdicts["bimi"] = report.bimi.verdict
    return verdicts


def _domains(report: Report) -> dict[str, str]:
    """The domains that the methods were about."""
    return {
        "spf_domain": report.spf.domain,
        "dkim_domains": ",".join(dict.fromkeys([one.domain for one in report.dkim if one.domain])),
        "from_domain": ",".join([result.domain for result in report.dmarc]),
    }


_SHARE: Final = 0.7
"""The part of `filterTimeout` that the checks may wait, so they end with results and not with a time-out."""


def build(options: MailAuthFilterOptions, name: str, context: BuildContext) -> MailAuthFilter:
    """The filter of one entry. It sends no DNS query before it is started."""
    servers = options.mailauth.resolver
    return MailAuthFilter(
        name,
        options.checks(min(TIME_LIMIT, context.filter_timeout * _SHARE)),
        frozenset(options.refuse),
        SharedResolver(servers.nameservers, servers.port, servers.timeout / 1000),
    )
