"""The acceptance of a mail: from its last byte to the reply that its client gets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from functions.message.addresses import in_ascii
from functions.message.charset import decode_words
from functions.message.envelope import Recipient, Refused
from functions.message.fields import first_value
from functions.message.headers import count_received
from functions.message.mail import Content
from listener.api.decision import Reply
from listener.api.session import Session, Transaction
from listener.flows.outcome import DataOutcome
from listener.intake.capture import NO_SPACE, Capture
from listener.intake.refusals import Refusals
from listener.intake.spool import Spool
from listener.intake.stamp import MAX_RECEIVED, Intake
from listener.logs import mail_log
from listener.logs.console import ACCEPTED
from listener.monitoring.events import NULL, Events

log = logging.getLogger("smtp_relay.smtp")

LOOP: Final = Reply(554, "5.4.6", "Too many hops: the mail goes round in a loop")
NON_ASCII: Final = Reply(553, "5.6.7", "Addresses without an ASCII form cannot be delivered to here")
RECONFIGURED: Final = Reply(451, "4.3.2", "The configuration has changed, send the mail again")

_SUBJECT: Final = 100
"""Most characters of a subject in a log line."""

_SUBJECT_BYTES: Final = 1_000

Answered = Callable[[tuple[Reply, ...]], None]
"""Called once with the replies of a mail: one, or in LMTP one for each recipient."""


class ReceivedMail(NamedTuple):
    """A mail that arrived whole. `ended` is the event loop's time of its last byte, for measurements."""

    session: Session
    transaction: Transaction
    capture: Capture
    content: Content
    sha256: str
    ended: float


class Acceptor:
    """Accepts the mails of one listener. It knows no connection: replies go to a callback.

    `ascii_only` says that an output of the listener's flows cannot serve non-ASCII local parts.
    """

    def __init__(
        self,
        intake: Intake,
        spool: Spool,
        refusals: Refusals,
        observer: Events,
        loop: asyncio.AbstractEventLoop,
        *,
        log_addresses: bool = False,
        ascii_only: bool = False,
    ) -> None:
        self.intake = intake
        self.refusals = refusals
        self.observer = observer
        self.loop = loop
        self.measures = observer is not NULL
        self._spool = spool
        self._hashes = spool.hashes
        self._log_addresses = log_addresses
        self._ascii_only = ascii_only
        self._only: frozenset[str] | None = None

    def retire(self, flows: Iterable[str]) -> None:
        """The server has a new configuration with only these flows. From now on a mail for another flow
        is deferred, because no output would deliver it."""
        self._only = frozenset(flows)

    def refuses_mail(self) -> Reply | None:
        """The reply to DATA while the spool has no room for another mail."""
        return NO_SPACE if self._spool.full() else None

    def refuses_address(self, address: str) -> Reply | None:
        """The reply to a recipient that no output could deliver to, because SES accepts only ASCII
        local parts."""
        return NON_ASCII if self._ascii_only and in_ascii(address) is None else None

    def received(
        self, session: Session, transaction: Transaction, capture: Capture, began: float
    ) -> ReceivedMail | tuple[Reply, ...]:
        """The last byte of a mail arrived; `began` is the loop's time of DATA's 354. Returns the mail,
        for the flows to decide about, or the replies if it cannot be accepted."""
        ended = 0.0
        if self.measures:
            self.observer.bytes_received(capture.size)
            ended = self.loop.time()
            self.observer.stage("receive", max(0.0, ended - began))
        if capture.failure is None:
            content, sha256 = capture.finish(hashed=self._hashes)  # may find that the header is too large
            if count_received(capture.head) >= MAX_RECEIVED:
                capture.fail(LOOP)
            if capture.failure is None:
                return ReceivedMail(session, transaction, capture, content, sha256, ended)
        assert capture.failure is not None
        return self._refuse(session, transaction, capture.failure)

    def accept(self, mail: ReceivedMail, outcome: DataOutcome, answered: Answered) -> None:
        """Store a mail for the recipients that the flows took."""
        decided = 0.0
        if self.measures:
            decided = self.loop.time()
            self.observer.stage("filters", decided - mail.ended)
        session, transaction = mail.session, mail.transaction
        taken: list[Recipient] = []
        for (address, flows), words in zip(outcome.recipients, transaction.recipient_parameters, strict=True):
            if not isinstance(flows, Reply):
                taken.append(Recipient.made({"address": address, "flows": flows, "parameters": words}))
        if not taken or (outcome.reply is not None and not session.lmtp):
            mail.capture.discard()
            answered(self._refused(mail, outcome))
            return
        some = not session.lmtp and len(taken) < len(outcome.recipients)
        envelope = self.intake.envelope(
            session,
            transaction,
            tuple(taken),
            outcome.notes,
            refused=_refused_recipients(outcome) if some else (),
            size=mail.content.size,
            sha256=mail.sha256,
        )
        names = envelope.flows()
        if self._only is not None and not self._only.issuperset(names):
            mail.capture.discard()
            answered(self._refuse(session, transaction, RECONFIGURED))
            return
        stored = partial(self._stored, mail, outcome, names, decided, answered)
        self._spool.store(envelope, mail.content, stored)

    def _stored(
        self,
        mail: ReceivedMail,
        outcome: DataOutcome,
        flows: tuple[str, ...],
        decided: float,
        answered: Answered,
        reply: Reply,
        files: Sequence[str] = (),
    ) -> None:
        """The spool has the reply for a mail of these flows."""
        if self.measures:
            now = self.loop.time()
            self.observer.stage("spool", now - decided)
            self.observer.stage("reply", now - mail.ended)
            if reply.code < 300:
                self.observer.mail_accepted(flows)
            else:
                self.observer.mail_deferred()
        self._log_stored(mail, flows, reply, files)
        answered(_for_each(outcome, reply) if mail.session.lmtp else (reply,))

    def _refused(self, mail: ReceivedMail, outcome: DataOutcome) -> tuple[Reply, ...]:
        if not mail.session.lmtp:
            assert outcome.reply is not None
            return self._refuse(mail.session, mail.transaction, outcome.reply)
        # A deferral outweighs refusals, as in SMTP's one reply, because the mail may come again.
        outcomes = [outcome for _, outcome in outcome.recipients if isinstance(outcome, Reply)]
        foremost = min(outcomes, key=lambda reply: reply.code)
        self.refusals.mail(mail.session, mail.transaction, foremost, "data")
        return _for_each(outcome, LOOP)

    def _refuse(self, session: Session, transaction: Transaction, reply: Reply) -> tuple[Reply, ...]:
        """Refuse or defer the whole mail."""
        self.refusals.mail(session, transaction, reply, "data")
        return (reply,) * (len(transaction.recipients) if session.lmtp else 1)

    def _log_stored(
        self, mail: ReceivedMail, flows: tuple[str, ...], reply: Reply, files: Sequence[str]
    ) -> None:
        session, transaction = mail.session, mail.transaction
        extra: dict[str, Any] = {
            "id": transaction.id,
            "session": session.id,
            "ip": session.ip,
            "size": mail.content.size,
            "flows": ",".join(flows),
            "recipients": len(transaction.recipients),
        }
        if session.user is not None:
            extra["user"] = session.user
        if self._log_addresses:
            extra["from"] = transaction.reverse_path
            extra["to"] = ",".join(transaction.recipients[:10])
            extra["subject"] = _subject(mail.capture.head)
            extra["message_id"] = _message_id(mail.capture.head)
            if files:
                # A file may be named after addresses and subject.
                extra["file"] = files[0]
        else:
            extra["from_domain"] = transaction.domain
        if reply.code < 300:
            # Connections write the line before the answer leaves; others that bring mails do not.
            if mail_log.info(log, ACCEPTED, extra):
                self.loop.call_soon(mail_log.flush)
        else:
            log.warning("mail not stored", extra=extra | {"reply": str(reply)})


def _subject(head: bytes) -> str | None:
    """The start of a mail's subject, None if it has none."""
    value = first_value(head, b"Subject")
    if value is None:
        return None
    text = decode_words(value[:_SUBJECT_BYTES]).strip()
    return text if len(text) <= _SUBJECT else f"{text[:_SUBJECT]}…"


def _message_id(head: bytes) -> str | None:
    """The start of a mail's Message-ID, with which its sender asks for it; None if it has none."""
    value = first_value(head, b"Message-ID")
    return None if value is None else value[:_SUBJECT_BYTES].decode("utf-8", "replace").strip()


def _for_each(outcome: DataOutcome, reply: Reply) -> tuple[Reply, ...]:
    """LMTP: one reply for each recipient (RFC 2033 section 4.2), `reply` for the accepted ones."""
    return tuple(outcome if isinstance(outcome, Reply) else reply for _, outcome in outcome.recipients)


def _refused_recipients(outcome: DataOutcome) -> tuple[Refused, ...]:
    """Recipients that were accepted at RCPT and refused now (`partialAccept`), for the envelope."""
    return tuple(
        Refused(address=address, reason=f"refused after DATA: {outcome}", code=outcome.enhanced)
        for address, outcome in outcome.recipients
        if isinstance(outcome, Reply)
    )
