"""Counts and logs refused clients and mails."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from listener.api.decision import Reply
    from listener.api.session import Session, Transaction
    from listener.monitoring.events import Events

log = logging.getLogger("smtp_relay.smtp")


class Refusals:
    """The refusals of one listener."""

    def __init__(self, listener: str, observer: Events, *, log_addresses: bool) -> None:
        self._listener = listener
        self._observer = observer
        self._log_addresses = log_addresses

    def client(self, session: Session, reason: Literal["filters", "early"], reply: Reply) -> None:
        """An accepted client gets no greeting, because the filters refuse it or it spoke first."""
        self._observer.connection_refused(self._listener, reason)
        about = {"session": session.id, "ip": session.ip, "client": session.name, "reply": str(reply)}
        log.info("client turned away", extra=about)

    def mail(
        self,
        session: Session,
        transaction: Transaction,
        reply: Reply,
        at: Literal["mail", "rcpt", "data"],
        recipient: str | None = None,
    ) -> None:
        """A MAIL, one recipient or a whole mail is refused or deferred. 530, which only asks for a
        login, is neither counted nor logged."""
        if reply.code == 530:
            return
        if reply.code >= 500:
            self._observer.mail_rejected()
        else:
            self._observer.mail_deferred()
        about: dict[str, Any] = {
            "id": transaction.id,
            "session": session.id,
            "ip": session.ip,
            "at": at,
            "reply": str(reply),
        }
        if self._log_addresses:
            about["from"] = transaction.reverse_path
            about["to"] = recipient or ",".join(transaction.recipients[:10])
        else:
            about["from_domain"] = transaction.domain
            if recipient is not None:
                about["to_domain"] = recipient.rpartition("@")[2].lower()
        log.info("mail not taken", extra=about)
