"""Counts and logs refused clients, logins and mails, and other failed attempts of strangers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, Literal

from listener.logs.limit import LineLimit

if TYPE_CHECKING:
    from listener.api.decision import Reply
    from listener.api.session import Session, Transaction
    from listener.monitoring.events import Events

log = logging.getLogger("smtp_relay.smtp")

_LOGIN_CODES: Final = frozenset({504, 538})
"""Replies to AUTH that name no mechanism of the listener (RFC 4954 section 6)."""

_MAX_USER: Final = 256
"""Most characters of a user name that a line shows."""

_SHOWN: Final = 10
"""Recipients that one line names."""


class Refusals:
    """The refusals of one listener; `lines` bounds their log lines, which have no bound without it."""

    def __init__(
        self, listener: str, observer: Events, *, log_addresses: bool, lines: LineLimit | None = None
    ) -> None:
        self._listener = listener
        self._observer = observer
        self._lines = lines or LineLimit(log, None, 128)
        self._log_addresses = log_addresses

    def client(self, session: Session, reason: Literal["filters", "early"], reply: Reply) -> None:
        """An accepted client gets no greeting, because the filters refuse it or it spoke first."""
        self._observer.connection_refused(self._listener, reason)
        about = {"session": session.id, "ip": session.ip, "client": session.name, "reply": str(reply)}
        self._lines.write(logging.INFO, "client turned away", about)

    def untrusted_proxy(self, session: Session) -> None:
        """A client that is not a trusted proxy sent a PROXY header: one line a minute, because a proxy whose
        address is missing in `useProxy` sends it with each connection."""
        self._observer.untrusted_proxy(self._listener)
        message = "PROXY header from an address that useProxy does not list"
        self._lines.write(logging.WARNING, message, self.about(session), most=1)

    def no_proxy_header(self, session: Session, error: Exception) -> None:
        """A trusted proxy did not say which client it speaks for."""
        self._observer.connection_refused(self._listener, "proxy")
        self._lines.write(logging.WARNING, "no PROXY header from a proxy: %s", self.about(session), error)

    def handshake(self, session: Session, reason: str) -> None:
        """The client and the server do not agree on TLS."""
        self._lines.write(logging.INFO, "TLS handshake failed: %s", self.about(session), reason)

    def login(self, session: Session, mechanism: str = "", user: str | None = None) -> None:
        """An AUTH command by `mechanism`, as `user`, is answered 535."""
        self._observer.auth_failed(self._listener)
        self._observer.command_error(self._listener, 535, mechanism)
        about = {"session": session.id, "ip": session.ip, **_login(mechanism, user)}
        self._lines.write(logging.WARNING, "authentication failed", about)

    def command(self, session: Session, reply: Reply, mechanism: str = "", user: str | None = None) -> None:
        """A command is answered 5yz, or a login before its credentials are known. `mechanism` is one that
        the listener offers, because a metric has it as a label. `user` is the name that the client gave. A
        login that a script answers 4yz is logged, and counts as no error."""
        if reply.code >= 500:
            self._observer.command_error(self._listener, reply.code, mechanism)
        if reply.code == 552:
            return  # `mail` logs it
        if reply.code == 530:
            message = "login required"
        else:
            message = "login refused" if mechanism or reply.code in _LOGIN_CODES else "command refused"
        about = self.about(session) | {"reply": str(reply)}
        known = session.user if user is None else user
        self._lines.write(logging.INFO, message, about | _login(mechanism, known))

    def recipient(self, transaction: Transaction, recipient: str, reply: Reply) -> None:
        """One recipient is refused or deferred; `recipients` logs all those of the mail. 530, which only
        asks for a login, is no refusal of the mail: `command` counts and logs it."""
        if reply.code != 530:
            self._count(reply)
            transaction.refuse(recipient, reply)

    def recipients(self, session: Session, transaction: Transaction) -> None:
        """No recipient follows: log which were refused or deferred, in one line."""
        refused = transaction.take_refused()
        if refused is None:
            return
        about = self._about_mail(session, transaction, refused.first_reply, "rcpt")
        about |= {"refused": refused.refused, "deferred": refused.deferred}
        if self._log_addresses:
            about |= {"from": transaction.reverse_path, "to": ",".join(refused.shown)}
        else:
            domains = dict.fromkeys(one.rpartition("@")[2].lower() for one in refused.shown)
            about |= {"from_domain": transaction.domain, "to_domain": ",".join(domains)}
        self._lines.write(logging.INFO, "mail not taken", about)

    def mail(
        self, session: Session, transaction: Transaction, reply: Reply, at: Literal["mail", "data"]
    ) -> None:
        """A MAIL or a whole mail is refused or deferred. 530, which only asks for a login, is no refusal of
        the mail."""
        if reply.code == 530:
            self.command(session, reply)
            return
        self._count(reply)
        about = self._about_mail(session, transaction, str(reply), at)
        if self._log_addresses:
            about |= {"from": transaction.reverse_path, "to": ",".join(transaction.recipients[:_SHOWN])}
        else:
            about["from_domain"] = transaction.domain
        self._lines.write(logging.INFO, "mail not taken", about)

    def tick(self) -> None:
        """Called each second."""
        self._lines.tick()

    def end(self) -> None:
        """The listener ends: log the counts of lines left out so far."""
        self._lines.end()

    def _count(self, reply: Reply) -> None:
        if reply.code >= 500:
            self._observer.mail_rejected()
        else:
            self._observer.mail_deferred()

    def about(self, session: Session) -> dict[str, Any]:
        """The attributes of a connection in log records."""
        return {"session": session.id, "ip": session.ip, "listener": self._listener}

    @staticmethod
    def _about_mail(session: Session, transaction: Transaction, reply: str, at: str) -> dict[str, Any]:
        return {"id": transaction.id, "session": session.id, "ip": session.ip, "at": at, "reply": reply}


def _login(mechanism: str, user: str | None) -> dict[str, str]:
    """The attributes of a login. A name that is long or not printable is left out, because a confused client
    may have put the password into it."""
    about = {"mechanism": mechanism} if mechanism else {}
    if user and user.isprintable() and len(user) <= _MAX_USER:
        about["user"] = user
    return about
