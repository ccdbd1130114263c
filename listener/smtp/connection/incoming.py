"""The mails of one connection, one after the other: from MAIL to the reply after DATA."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from listener.api.decision import Reply
from listener.api.session import Session, Transaction
from listener.flows.flow import ConnectionState
from listener.flows.outcome import DataOutcome
from listener.intake.accept import ReceivedMail
from listener.intake.capture import Capture
from listener.smtp.connection.pending import Pending
from listener.smtp.data import DataReader
from listener.smtp.endpoint import Endpoint
from listener.smtp.replies import FAULT, NO_ROOM, TOO_LONG, TOO_MANY_REFUSED, TOO_SLOW

log = logging.getLogger("smtp_relay.smtp")


class MailHost(Protocol):
    """The interface that the reception of mails needs from its connection."""

    endpoint: Endpoint
    loop: asyncio.AbstractEventLoop
    session: Session
    flows: ConnectionState
    pending: Pending

    def touch(self) -> None: ...
    def reply(self, reply: Reply) -> None: ...
    def finish(self, reply: Reply | None, *, linger: bool = False) -> None: ...
    def hang_up_after(self, reply: Reply) -> None: ...
    def read_data(self) -> None: ...
    def mail_ended(self, rest: bytes) -> None: ...
    def mail_answered(self, replies: tuple[Reply, ...]) -> None: ...


class MailReception:
    """One connection's mails. `transaction` is the mail in the making, None between mails; `messages`
    counts the accepted ones."""

    __slots__ = (
        "_began",
        "_capture",
        "_host",
        "_reader",
        "_refused",
        "_started",
        "committing",
        "forwarded",
        "messages",
        "refused_recipients",
        "transaction",
    )

    def __init__(self, host: MailHost) -> None:
        self._host = host
        self.transaction: Transaction | None = None
        self.messages = 0
        self.refused_recipients = 0
        self.committing = False
        """True if a mail came in whole and is not answered yet: its handling goes on if the client
        leaves."""
        self._refused = 0
        """Recipients refused since the last accepted mail, in transactions without an accepted one."""
        self.forwarded: dict[str, str] | None = None
        """XFORWARD's attributes for the next mail."""
        self._capture: Capture | None = None
        self._reader: DataReader | None = None
        self._started = 0.0
        self._began = 0.0

    @property
    def size(self) -> int:
        """The bytes of the mail that came in so far."""
        return 0 if self._capture is None else self._capture.size

    @property
    def replies_due(self) -> int:
        """The number of replies in the next answer: after DATA, in LMTP, one for each recipient (RFC
        2033 section 4.2)."""
        if self._capture is None or self.transaction is None or not self._host.session.lmtp:
            return 1
        return len(self.transaction.recipients)

    @property
    def takes_no_more(self) -> bool:
        """True if the endpoint's ending ends this connection before another mail: the configuration is an
        old one, or the server stops and a mail came in."""
        return self._host.endpoint.retired_until is not None or self.messages > 0

    # -- the envelope ------------------------------------------------------------------------

    def begin(self, transaction: Transaction) -> None:
        """MAIL was accepted."""
        self.transaction = transaction
        self.refused_recipients = 0

    def forward(self, attributes: dict[str, str]) -> None:
        """XFORWARD gave these attributes of the next mail; several commands add up."""
        self.forwarded = {**(self.forwarded or {}), **attributes}

    def take_forwarded(self) -> dict[str, str] | None:
        """XFORWARD's attributes for the mail that begins."""
        forwarded, self.forwarded = self.forwarded, None
        return forwarded

    def refuse_recipient(self, reply: Reply) -> None:
        """Answer a refused RCPT; too many end the connection."""
        host, limits = self._host, self._host.endpoint.limits
        self.refused_recipients += 1
        if self.transaction is not None and not self.transaction.recipients:
            self._refused += 1
        if self._refused > limits.max_refused_recipients or self.refused_recipients > limits.max_recipients:
            host.finish(TOO_MANY_REFUSED, linger=True)
        else:
            host.reply(reply)
            host.hang_up_after(reply)

    def forget(self) -> None:
        """Forget the mail in the making, and XFORWARD's attributes for the next (EHLO, STARTTLS)."""
        self.forwarded = None
        self.reset()

    def reset(self) -> None:
        """Forget the mail in the making (RSET, EHLO, MAIL, STARTTLS)."""
        if self.transaction is not None and self.transaction.refused is not None:
            self._host.endpoint.refusals.recipients(self._host.session, self.transaction)
        if self._capture is not None:
            self._capture.discard()
            self._capture = None
        self._reader = None
        self.transaction = None
        if self._host.flows is not None:
            self._host.flows.reset()

    def fail(self) -> None:
        """Give the mail up after a fault in the relay's code; the client may retry it."""
        self.committing = False
        self.reset()

    # -- DATA --------------------------------------------------------------------------------

    def start(self, capture: Capture) -> None:
        """Read the mail from here on."""
        host = self._host
        endpoint, options = host.endpoint, host.endpoint.options
        if self.transaction is not None and self.transaction.refused is not None:
            endpoint.refusals.recipients(host.session, self.transaction)
        self._capture = capture
        self._reader = DataReader(options.bare_newline, options.max_line_length)
        self._started = endpoint.now
        self._began = host.loop.time() if endpoint.acceptor.measures else 0.0
        host.read_data()

    def feed(self, data: bytes) -> None:
        """Bytes of the mail came in; they may hold its end."""
        host, reader, capture = self._host, self._reader, self._capture
        assert reader is not None
        assert capture is not None
        try:
            piece = reader.feed(data)
            if piece:
                capture.feed(piece)
                if reader.flaw is not None:
                    capture.fail(reader.flaw.value)
            if reader.rest is None:
                host.touch()
                if capture.size > host.endpoint.limits.drop_size:
                    host.finish(capture.failure or FAULT, linger=True)
                return
            self._reader = None
            self.committing = True
            host.mail_ended(reader.rest)
            self._take_in(capture)
        except Exception:
            log.exception("fault while reading a mail", extra={"session": host.session.id})
            self.committing = False
            host.finish(FAULT)

    def overdue(self, now: float) -> Reply | None:
        """Called each second of DATA: the reply that ends the connection, None if it may go on."""
        capture, limits = self._capture, self._host.endpoint.limits
        assert capture is not None
        if capture.ended:
            return NO_ROOM
        if now - self._started > limits.max_data_time:
            return TOO_LONG
        rate = capture.measured(self._started)
        rate.mark(now, capture.size)
        slow = rate.too_slow(now, capture.size, least=limits.min_data_rate, grace=limits.socket_timeout)
        return TOO_SLOW if slow else None

    def _take_in(self, capture: Capture) -> None:
        """The last byte came in: ask the data filters, then store the mail."""
        host, transaction, acceptor = self._host, self.transaction, self._host.endpoint.acceptor
        assert transaction is not None
        mail = acceptor.received(host.session, transaction, capture, self._began)
        if isinstance(mail, ReceivedMail):
            outcome = host.flows.data(transaction, capture)
            if isinstance(outcome, DataOutcome):
                acceptor.accept(mail, outcome, self._answered)
            else:
                host.pending.settle(outcome, lambda decided: acceptor.accept(mail, decided, self._answered))
        else:
            self._answered(mail)

    def _answered(self, replies: tuple[Reply, ...]) -> None:
        self.committing = False
        self._host.flows.answered(replies)
        if self._capture is not None:
            self._capture.release()
            self._capture = None
        self.transaction = None
        for reply in replies:
            if reply.code < 300:
                self.messages += 1
                self._refused = 0
                break
        self._host.mail_answered(replies)
