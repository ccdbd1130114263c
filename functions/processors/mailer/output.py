"""Output `mailer`, also called `nodemailer`: forward the mail to an SMTP server
(docs/outputs/mailer.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final

from functions.errors import ConfigError, Temporary
from functions.message.addresses import authors_of
from functions.message.domains import domain_key
from functions.options.packages import not_installed
from functions.processors.base import MIN_SECONDS_LEFT, Job, Processor
from functions.processors.context import BuildContext
from functions.processors.mailer.message import OutgoingMessage
from functions.processors.mailer.options import DomainKey, MailerOutputOptions
from functions.processors.mailer.override import Overriding
from functions.processors.mailer.rate import Rate
from functions.processors.mailer.recipients import deliver_to
from functions.processors.mailer.transport import server_of
from functions.smtp_client.pool import Lease, Pool
from functions.smtp_client.transaction import MailToSend, Rcpt, Stale, TransactionResult, transact

if TYPE_CHECKING:
    from functions.processors.mailer.dkim import Signer

MARGIN: Final = 5.0
"""Seconds at the end of a run that are left for recording its results."""


class Signers:
    """The DKIM keys of one output: by the domain of a mail's author, and the one that signs everything
    else (docs/outputs/mailer.md)."""

    def __init__(self, by_domain: Mapping[str, Signer], other: Signer | None) -> None:
        self._by_domain = by_domain
        self._other = other

    @classmethod
    def of(cls, options: MailerOutputOptions, name: str, resolve: Callable[[str], str]) -> Signers:
        """Load the keys of an output's options. Raises ConfigError; keys are never shown."""
        by_domain = {
            domain: _signer(f"output {name}: dkims.{domain}", key.domain_name or domain, key, resolve)
            for domain, key in options.dkims.items()
        }
        single = options.dkim
        if single is None:
            return cls(by_domain, None)
        return cls(by_domain, _signer(f"output {name}: dkim", single.domain_name, single, resolve))

    def choose(self, head: bytes, *, reverse_path: str) -> Signer | None:
        """The signer of a mail: the key of the header From's domain, else of the reverse-path's, else
        the one for everything else."""
        for domain in (author_domain(head), domain_key(reverse_path.rpartition("@")[2])):
            if domain in self._by_domain:
                return self._by_domain[domain]
        return self._other


def author_domain(head: bytes) -> str:
    """The domain of the first author's address, in ASCII form; "" if there is none."""
    return next(iter(authors_of(head).domains), "")


def _signer(where: str, domain: str, key: DomainKey, resolve: Callable[[str], str]) -> Signer:
    try:
        from functions.processors.mailer.dkim import Signer, load_key
    except ImportError as error:
        raise not_installed(where, "a DKIM key", error, "mailer") from error
    try:
        return Signer(domain, key.key_selector, load_key(key.private_key.resolve(resolve)))
    except ValueError as error:
        raise ConfigError(f"{where}.privateKey", str(error), "smtp-relay dkim-generate makes one") from error


class MailerProcessor(Processor):
    """Forwards mails to one server."""

    def __init__(
        self, pool: Pool, overriding: Overriding, signers: Signers, rate: Rate | None = None
    ) -> None:
        self._pool = pool
        self._rate = rate
        self._overriding = overriding
        self._signers = signers

    def process(self, job: Job) -> None:
        """Serve all recipients that are not served yet. Raises Temporary while recipients are left for
        a retry, then Permanent if recipients were refused."""
        recipients = self._recipients(job)
        with self._pool.lease(lambda: job.seconds_left() - MARGIN) as lease:
            work = _Work(job, lease, recipients, partial(self._message, job), self._rate)
            ending = deliver_to(list(recipients), job.once, work.send)
        ending.settle()

    def close(self) -> None:
        self._pool.close()

    def _recipients(self, job: Job) -> dict[str, Rcpt]:
        """Address to recipient, each once, in the client's order."""
        if self._overriding.recipients is not None:
            return {each: Rcpt(each) for each in self._overriding.recipients}
        parameters = {r.address: r.parameters for r in reversed(job.mail.envelope.recipients)}
        return {each: Rcpt(each, parameters.get(each, ())) for each in job.recipients}

    def _message(self, job: Job) -> MailToSend:
        envelope = job.mail.envelope
        replaced = self._overriding.reverse_path
        reverse_path = envelope.reverse_path if replaced is None else replaced
        choose = partial(self._signers.choose, reverse_path=reverse_path)
        letter = OutgoingMessage(job.mail, job.flow, self._overriding.head, choose)
        declared = {each.upper() for each in envelope.parameters}
        return MailToSend(
            reverse_path,
            letter.chunks,
            letter.size,
            eight_bit=letter.eight_bit or "BODY=8BITMIME" in declared,
            utf8=envelope.smtputf8,
            # RFC 6531 section 3.6; a raw header of a client that does not know SMTPUTF8 is sent on
            # as received.
            utf8_header=letter.eight_bit_head and (envelope.smtputf8 or self._overriding.utf8),
            parameters=envelope.parameters,
        )


class _Work:
    """One attempt at one mail: its transactions share a session, and the message is made for the
    first of them."""

    def __init__(
        self,
        job: Job,
        lease: Lease,
        recipients: Mapping[str, Rcpt],
        make: Callable[[], MailToSend],
        rate: Rate | None = None,
    ) -> None:
        self._rate = rate
        self._job = job
        self._lease = lease
        self._recipients = recipients
        self._make = make

    @cached_property
    def message(self) -> MailToSend:
        """The message to send. Raises Permanent or Temporary."""
        return self._make()

    def send(self, addresses: Sequence[str]) -> TransactionResult:
        """One transaction. Raises Permanent or Temporary."""
        if self._job.seconds_left() < MIN_SECONDS_LEFT:
            raise Temporary("too little of the run is left", enhanced="4.4.7")
        message = self.message
        if self._rate is not None:
            self._rate.turn(self._job.seconds_left)
        recipients = [self._recipients[each] for each in addresses]
        try:
            return transact(self._lease.connection(), message, recipients)
        except Stale:
            # The server closed the session while it was idle, and received nothing of this mail.
            return transact(self._lease.connection(fresh=True), message, recipients)


def build(options: MailerOutputOptions, name: str, context: BuildContext) -> MailerProcessor:
    """The processor of one `mailer` output. Raises ConfigError."""
    try:
        overriding = Overriding(options.override)
    except ValueError as error:
        raise ConfigError(f"output {name}: override", str(error)) from error
    transport = options.nodemailer
    try:
        server = server_of(transport, context.secrets, context.folder)
    except ValueError as error:
        raise ConfigError(f"output {name}: nodemailer", str(error)) from error
    pool = Pool(
        server,
        keep=transport.pool,
        most=transport.max_connections,
        messages=transport.max_messages,
    )
    limit = transport.rate_limit
    rate = None if limit is None else Rate(limit, transport.rate_delta / 1000)
    return MailerProcessor(pool, overriding, Signers.of(options, name, context.secrets), rate)
