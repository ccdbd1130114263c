"""The fields on top of an accepted mail, and its envelope (docs/concepts.md)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from functions.message.envelope import SCHEMA, Envelope, FlowNotes, Recipient, Refused
from functions.message.headers import HeaderEdits, is_mailbox_line, separator
from listener.api.session import Session, Transaction
from listener.intake.capture import Capture
from listener.intake.captures import Captures
from listener.intake.received_field import received_field

MAX_RECEIVED: Final = 100
"""Received fields that make a loop (RFC 5321 section 6.3 asks for at least 100)."""

MAILBOX_FIELD: Final = b"X-Mailbox-Line: "
"""Turns the line that a mailbox file puts before a mail into a field, as Postfix does."""


class Intake:
    """The shared objects of one listener's connections for accepting mails.

    `folder` holds mails above 64 KiB while they arrive; the spool owns it. `captures` bounds what the
    mails of all listeners hold meanwhile.
    """

    def __init__(
        self,
        folder: Path,
        edits: HeaderEdits,
        *,
        hostname: str,
        received: bool,
        max_size: int,
        max_header: int,
        config_digest: str,
        captures: Captures | None = None,
    ) -> None:
        self._folder = folder
        self._captures = captures or Captures(folder)
        self._edits = edits
        self._hostname = hostname
        self._received = received
        self._max_size = max_size
        self._max_header = max_header
        # In the order of the fields, because that is the order in JSON.
        self._values: dict[str, Any] = dict.fromkeys(Envelope.model_fields)
        self._values.update(schema_=SCHEMA, config=config_digest, replay=0)

    def capture(self, session: Session, transaction: Transaction, *, crlf: bool = False) -> Capture:
        """Start to capture one mail. `crlf` says that the lines that come end in CRLF, and hold no other CR
        or LF."""
        transaction.transmission = session.transmission(smtputf8=transaction.smtputf8)
        return Capture(
            self._folder,
            transaction.id,
            partial(self._stamp, session, transaction),
            max_size=self._max_size,
            max_header=self._max_header,
            captures=self._captures,
            crlf=crlf,
        )

    def _stamp(
        self, session: Session, transaction: Transaction, head: bytes, rest: bytes
    ) -> tuple[bytes, bytes]:
        fields, kept = self._edits.applied(head)
        if self._received:
            recipients = transaction.recipients
            fields += received_field(
                helo=session.helo,
                ip=session.ip,
                name=session.name,
                by=self._hostname,
                transmission=transaction.transmission,
                mail_id=transaction.id,
                received=time.time_ns() // 1_000_000,
                tls=session.tls,
                recipient=recipients[0] if len(recipients) == 1 else None,
            )
        if is_mailbox_line(kept):
            # In the middle of a header the line is not a field, and for some readers the body
            # begins there.
            kept = MAILBOX_FIELD + kept
        if not fields:
            # Nothing above it, because a first line that looks folded would join the envelope's
            # field.
            folded = not head and rest[:1] in (b" ", b"\t")
            return b"", b"\r\n" if folded else kept
        return fields if head else fields + separator(head, rest), kept

    def envelope(
        self,
        session: Session,
        transaction: Transaction,
        recipients: tuple[Recipient, ...],
        notes: Mapping[str, FlowNotes],
        *,
        refused: tuple[Refused, ...] = (),
        size: int,
        sha256: str,
    ) -> Envelope:
        """The envelope of a mail whose content is known. Its received time is now."""
        values = self._values.copy()  # half the time of making a dict of so many keys
        values["id"] = transaction.id
        values["session"] = session.id
        values["received"] = time.time_ns() // 1_000_000
        values["reverse_path"] = transaction.reverse_path
        values["parameters"] = transaction.parameters
        values["recipients"] = recipients
        values["helo"] = session.helo
        values["client"] = session.client
        values["server"] = session.server
        values["listener"] = session.listener
        values["tls"] = session.tls
        values["user"] = session.user
        values["transmission"] = transaction.transmission
        values["forwarded"] = transaction.forwarded
        values["notes"] = notes
        values["size"] = size
        values["sha256"] = sha256
        values["refused"] = refused
        return Envelope.made(values)
