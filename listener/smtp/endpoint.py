"""What all connections of one listener share: its options, limits and replies, prepared once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from functions.message.headers import count_received
from functions.message.mail import Content
from functions.spool.dead_record import UNKNOWN, DeadRecord
from listener.api.decision import Reply
from listener.api.session import Session, Transaction
from listener.config.peers import trusted
from listener.flows.flow import Flows
from listener.flows.outcome import DataOutcome
from listener.intake.capture import Capture
from listener.intake.refusals import Refusals
from listener.intake.spool import Spool
from listener.intake.stamp import MAX_RECEIVED, Intake
from listener.logs import mail_log
from listener.monitoring.events import NULL, Observer
from listener.smtp.commands import LMTP_VERBS, SMTP_VERBS, Verb
from listener.smtp.connection import Connection
from listener.smtp.tls.context import facts
from listener.smtp.xclient import XCLIENT_NAMES, xclient
from listener.smtp.xforward import XFORWARD_NAMES, xforward

if TYPE_CHECKING:
    import ssl

    from functions.message.envelope import Tls
    from listener.config.listeners import Listener
    from listener.mailauth.dns.iprev import Names
    from listener.smtp.connection_limits import Gate
    from listener.smtp.tls.context import ServerTls

log = logging.getLogger("smtp_relay.smtp")

LOOP: Final = Reply(554, "5.4.6", "Too many hops: the mail goes round in a loop")
BAD_COMMAND: Final = Reply(500, "5.5.1", "Command not recognised")
DISABLED: Final = Reply(502, "5.5.1", "Command not offered here")
NO_SPACE: Final = Reply(452, "4.3.1", "Insufficient system storage")
NON_ASCII: Final = Reply(553, "5.6.7", "Addresses with non-ASCII local parts cannot be delivered to here")

MECHANISMS: Final = ("PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2")

DROP_FACTOR: Final = 4
"""How many times the size limit a client may send of a mail that is dropped before it is cut."""


class Port:
    """One listener, as its connections see it. `now` is the event loop's time, refreshed each
    second: deadlines need no better."""

    def __init__(
        self,
        listener: Listener,
        flows: Flows,
        intake: Intake,
        spool: Spool,
        gate: Gate,
        *,
        hostname: str,
        loop: asyncio.AbstractEventLoop,
        observer: Observer,
        log_addresses: bool = False,
        ascii_only: bool = False,
        tls: ServerTls | None = None,
        names: Names | None = None,
    ) -> None:
        options = listener.options
        self.listener = listener
        self.options = options
        self.name = listener.name
        self.flows = flows
        self.intake = intake
        self.spool = spool
        self.gate = gate
        self.hostname = hostname
        self.loop = loop
        self.observer = observer
        self.measures = observer is not NULL
        self.now = loop.time()
        self.connections: set[Connection] = set()
        self.draining = False
        self.refusals = Refusals(listener.name, observer, log_addresses=log_addresses)
        self._log_addresses = log_addresses
        self._ascii_only = ascii_only

        self.max_size = options.size
        self.drop_limit = options.size * DROP_FACTOR + 1_048_576
        self.max_recipients = options.max_recipients
        self.max_messages = options.max_messages_per_connection or 0
        self.max_auth_failures = options.max_auth_failures
        self.socket_timeout = options.socket_timeout / 1000
        self.close_timeout = options.close_timeout / 1000
        self.min_data_rate = options.min_data_rate
        self.eightbitmime = not options.hide_8bitmime
        self.smtputf8 = not options.hide_smtputf8
        self.dsn = options.dsn and not options.hide_dsn
        self._enhanced = not options.hide_enhanced_status_codes
        self.secure = options.secure
        self.meets_strangers = names is not None and (
            listener.exposed or bool(options.use_proxy or options.use_xclient)
        )
        self.tls = tls
        self.names = names
        self.needs_names = any(one.needs_name for one in flows.filters)
        self.proxies = trusted(options.use_proxy)
        self.xclients = trusted(options.use_xclient)
        self.xforwards = trusted(options.use_xforward)

        disabled = {name.upper() for name in options.disabled_commands}
        table = dict(LMTP_VERBS if options.lmtp else SMTP_VERBS)
        if self.xclients is not None:
            table["XCLIENT"] = xclient
        if self.xforwards is not None:
            table["XFORWARD"] = xforward
        self.verbs: dict[bytes, Verb] = {}
        for name, verb in table.items():
            if name not in disabled:
                self.verbs[name.encode()] = verb
                self.verbs[name.lower().encode()] = verb
        self._disabled = {name.encode() for name in disabled} | {name.encode() for name in SMTP_VERBS}
        self.starttls = b"STARTTLS" in self.verbs and not options.hide_starttls
        self.mechanisms = self._mechanisms()
        self.offers_auth = bool(self.mechanisms) and b"AUTH" in self.verbs
        clear = options.allow_insecure_auth or options.hide_starttls or "STARTTLS" in disabled
        self.clear_auth = clear
        banner = options.banner or "ESMTP smtp-relay"
        kind = "LMTP" if options.lmtp else ""
        self.greeting = f"220 {hostname} {kind}{' ' if kind else ''}{banner}\r\n".encode()
        self._in_hand = 0
        self._extensions: dict[tuple[bool, bool, bool, bool], bytes] = {}
        self._encoded: dict[Reply, bytes] = {}

    def _mechanisms(self) -> frozenset[str]:
        offered = frozenset(self.options.auth_methods)
        filters = [one for flow in self.flows.flows if flow.serves(self.name) for one in flow.filters]
        checking = [one for one in filters if one.checks_credentials]
        if not checking or any(one.any_user for one in filters):
            return offered
        known = {name for one in checking for name in one.mechanisms}
        if all(getattr(one, "supports_cram_md5", False) for one in checking):
            known.add("CRAM-MD5")
        elif "CRAM-MD5" in offered:
            log.warning(
                "CRAM-MD5 is not offered: not every password is kept as it is (plain:)",
                extra={"listener": self.name},
            )
        return offered & known

    # -- connections -------------------------------------------------------------------------

    def make(self) -> Connection:
        """A protocol object for a new connection."""
        return Connection(self)

    def opened(self, connection: Connection) -> None:
        """A transport is there."""
        self.connections.add(connection)

    def admit(self, connection: Connection) -> Reply | None:
        """Let a client in, or say why not."""
        refusal = self.gate.enter(connection)
        if refusal is None:
            connection.let_in = True
            self.observer.connection_opened(self.name)
        else:
            self.observer.connection_refused(self.name, "limit")
        return refusal

    def closed(self, connection: Connection) -> None:
        """The transport is gone."""
        self.connections.discard(connection)
        self.gate.leave(connection)
        if connection.let_in:
            connection.let_in = False
            self.observer.connection_closed(self.name, self.loop.time() - connection.opened_at)

    def tls_facts(self, tls: ssl.SSLObject) -> Tls:
        """What the envelope keeps of a TLS connection."""
        return facts(tls, with_client=self.options.request_cert)

    def tick(self, now: float) -> None:
        """Called each second: end what is overdue."""
        self.now = now
        for connection in list(self.connections):
            try:
                connection.expire(now)
            except Exception:
                # The others have deadlines too.
                log.exception("fault at a deadline", extra={"session": connection.session.id})
                connection.transport.abort()

    def drain(self) -> None:
        """Stop: idle connections end now, the others after the mail they are sending."""
        self.draining = True
        for connection in list(self.connections):
            connection.drain()

    def auth_failed(self, session: Session) -> None:
        """An AUTH command was answered 535."""
        self.observer.auth_failed(self.name)
        log.warning("authentication failed", extra={"session": session.id, "ip": session.ip})

    # -- replies -----------------------------------------------------------------------------

    def encode(self, reply: Reply) -> bytes:
        """A reply as octets; the common ones are made once."""
        encoded = self._encoded.get(reply)
        if encoded is None:
            code, enhanced, text = reply
            if not self._enhanced:
                enhanced = ""
            line = f"{code} {enhanced} {text}\r\n" if enhanced else f"{code} {text}\r\n"
            encoded = line.encode("utf-8", "replace")
            if len(self._encoded) < 256:
                self._encoded[reply] = encoded
        return encoded

    def unknown(self, verb: bytes) -> Reply:
        """The answer to a verb that is not in the table."""
        return DISABLED if verb.upper() in self._disabled else BAD_COMMAND

    def hello(self, connection: Connection) -> str:
        """The first line of the answer to HELO and EHLO."""
        response = self.options.helo_response
        if response is None:
            return f"{self.hostname} greets {connection.session.helo}"
        # As the reference has it: the first %s is our name, the second the client's.
        return response.replace("%s", self.hostname, 1).replace("%s", connection.session.helo, 1)

    def extensions(self, connection: Connection) -> bytes:
        """The whole answer to EHLO or LHLO."""
        trusted_as = connection.trusted_as
        key = (
            connection.tls_active,
            connection.session.user is not None,
            self.xclients is not None and self.xclients(trusted_as),
            self.xforwards is not None and self.xforwards(trusted_as),
        )
        made = self._extensions.get(key)
        if made is None:
            made = self._extensions[key] = self._offer(*key)
        return b"250-" + self.hello(connection).encode("utf-8", "replace") + made

    def _offer(self, secure: bool, authenticated: bool, may_xclient: bool, may_xforward: bool) -> bytes:
        options = self.options
        offers: list[str] = []
        if not options.hide_pipelining:
            offers.append("PIPELINING")
        offers.append("SIZE" if options.hide_size else f"SIZE {self.max_size}")
        if self.eightbitmime:
            offers.append("8BITMIME")
        if self.smtputf8:
            offers.append("SMTPUTF8")
        if self.dsn:
            offers.append("DSN")
        if self.starttls and not secure and self.tls is not None:
            offers.append("STARTTLS")
        if self.offers_auth and not authenticated and (secure or self.clear_auth):
            names = " ".join(name for name in MECHANISMS if name in self.mechanisms)
            offers.append(f"AUTH {names}")
        if may_xclient:
            offers.append(f"XCLIENT {' '.join(XCLIENT_NAMES)}")
        if may_xforward:
            offers.append(f"XFORWARD {' '.join(XFORWARD_NAMES)}")
        if self._enhanced:
            offers.append("ENHANCEDSTATUSCODES")
        lines = [f"250-{offer}" for offer in offers]
        lines[-1] = "250 " + lines[-1][4:]
        return b"\r\n" + "\r\n".join(lines).encode() + b"\r\n"

    # -- mails -------------------------------------------------------------------------------

    def refuses_mail(self) -> Reply | None:
        """Whether there is no room for another mail right now."""
        return NO_SPACE if self.spool.full() else None

    def refuses_address(self, address: str) -> Reply | None:
        """Whether a non-ASCII recipient could never be delivered to (SPEC section 7, SES)."""
        local = address.rpartition("@")[0]
        return NON_ASCII if self._ascii_only and not local.isascii() else None

    def data_complete(self, connection: Connection, capture: Capture) -> None:
        """The last octet of a mail came in: ask the data filters, then store it."""
        transaction = connection.transaction
        assert transaction is not None
        self.observer.bytes_received(capture.size)
        ended = self.loop.time() if self.measures else 0.0
        if self.measures:
            self.observer.stage("receive", max(0.0, ended - connection.data_began))
        if capture.failure is None:
            content, sha256 = capture.finish()
            if count_received(capture.head) >= MAX_RECEIVED:
                capture.fail(LOOP)
        if capture.failure is not None:
            self._answer(connection, transaction, capture.failure)
            return
        decide = partial(self._decided, connection, transaction, capture, content, sha256, ended)
        connection.settle(connection.flows.data(transaction, capture), decide)

    def _decided(
        self,
        connection: Connection,
        transaction: Transaction,
        capture: Capture,
        content: Content,
        sha256: str,
        ended: float,
        outcome: DataOutcome,
    ) -> None:
        decided = self.loop.time() if self.measures else 0.0
        if self.measures:
            self.observer.stage("filters", decided - ended)
        lmtp = connection.session.lmtp
        taken = tuple(
            {"address": address, "flows": fate, "parameters": words}
            for (address, fate), words in zip(
                outcome.recipients, transaction.recipient_parameters, strict=True
            )
            if not isinstance(fate, Reply)
        )
        if not taken or (outcome.reply is not None and not lmtp):
            capture.discard()
            if lmtp:
                # One that may come again outweighs those that may not, as in SMTP's one reply.
                fates = [fate for _, fate in outcome.recipients if isinstance(fate, Reply)]
                foremost = min(fates, key=lambda reply: reply.code)
                self.refusals.mail(connection.session, transaction, foremost, "data")
                self._answer_each(connection, outcome, LOOP)
            else:
                assert outcome.reply is not None
                self._answer(connection, transaction, outcome.reply)
            return
        envelope = self.intake.envelope(
            connection.session, transaction, taken, outcome.notes, size=content.size, sha256=sha256
        )
        some = not lmtp and len(taken) < len(outcome.recipients)
        refused = _refused(envelope.id, envelope.received, transaction, outcome) if some else ()
        flows = envelope.flows()

        def answered(reply: Reply) -> None:
            if self.measures:
                now = self.loop.time()
                self.observer.stage("spool", now - decided)
                self.observer.stage("reply", now - ended)
            self._in_hand -= 1
            self._log_stored(connection, transaction, content.size, flows, reply)
            if not self._in_hand:
                mail_log.flush()
            if reply.code < 300:
                connection.messages += 1
                self.observer.mail_accepted(flows)
            else:
                self.observer.mail_deferred()
            if lmtp:
                self._answer_each(connection, outcome, reply)
            else:
                connection.data_done(reply)

        self._in_hand += 1
        self.spool.store(envelope, content, answered, refused)

    def _answer(self, connection: Connection, transaction: Transaction, reply: Reply) -> None:
        """Refuse or defer the whole mail."""
        self.refusals.mail(connection.session, transaction, reply, "data")
        times = len(transaction.recipients) if connection.session.lmtp else 1
        connection.data_done(*[reply] * times)

    def _answer_each(self, connection: Connection, outcome: DataOutcome, reply: Reply) -> None:
        """LMTP: one reply per recipient (RFC 2033 section 4.2)."""
        connection.data_done(*[fate if isinstance(fate, Reply) else reply for _, fate in outcome.recipients])

    def _log_stored(
        self,
        connection: Connection,
        transaction: Transaction,
        size: int,
        flows: tuple[str, ...],
        reply: Reply,
    ) -> None:
        session = connection.session
        extra: dict[str, Any] = {
            "id": transaction.id,
            "session": session.id,
            "ip": session.ip,
            "size": size,
            "flows": ",".join(flows),
            "recipients": len(transaction.recipients),
        }
        if self._log_addresses:
            extra["from"] = transaction.reverse_path
            extra["to"] = ",".join(transaction.recipients[:10])
        else:
            extra["from_domain"] = transaction.domain
        if reply.code < 300:
            if mail_log.info(log, "mail accepted", extra):
                self.loop.call_soon(mail_log.flush)
        else:
            log.warning("mail not stored", extra=extra | {"reply": str(reply)})


def _refused(
    mail_id: str, received: int, transaction: Transaction, outcome: DataOutcome
) -> tuple[DeadRecord, ...]:
    """Dead records of recipients that were accepted at RCPT and refused now (`partialAccept`)."""
    return tuple(
        DeadRecord(
            id=mail_id,
            key=f"recipient-{index}",
            flow="",
            output=UNKNOWN,
            reason=f"refused after DATA: {fate}",
            code=fate.enhanced,
            first=received,
            last=received,
            recipients=(address,),
            reverse_path=transaction.reverse_path,
        )
        for index, (address, fate) in enumerate(outcome.recipients)
        if isinstance(fate, Reply)
    )


Clock = Callable[[], float]
