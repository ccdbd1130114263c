"""A session with an SMTP server, from the connection to QUIT."""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from functions.smtp_client.reply import LoginRefused, Lost, ServerReply, Unreachable
from functions.smtp_client.resolve import connect
from functions.smtp_client.sasl import authenticate, choose
from functions.smtp_client.server import Login, SmtpServer
from functions.smtp_client.wire import Wire

log: Final = logging.getLogger("smtp_relay.output.mailer")

PARTING: Final = 2.0
"""Seconds to wait for the answer to QUIT."""


class Connection:
    """A session that is ready for mails. `user` is the name that it is logged in with, None without a login.
    `broken` says that it cannot take another mail; `used` counts its transactions, `since` is the monotonic
    time of the last one."""

    def __init__(self, server: SmtpServer, wire: Wire) -> None:
        self.server = server
        self.wire = wire
        self.extensions: Mapping[str, str] = {}
        self.user: str | None = None
        self.broken = False
        self.used = 0
        self.since = time.monotonic()

    @classmethod
    def open(cls, server: SmtpServer, limit: Callable[[], float]) -> Connection:
        """Connect, send EHLO, start TLS and log in as the server's options say. Raises Unreachable, with
        the server's words if any."""
        login = server.login
        if login is None or login.tokens is None:
            return cls._open(server, login, limit)
        # Without a token no session is opened, because it would only wait.
        now = login.now(limit)
        try:
            return cls._open(server, now, limit)
        except LoginRefused as fault:
            if fault.code != 535:
                raise
        # A token may be withdrawn before its end. Another session asks, because servers close one after
        # a refused login, or count them.
        login.tokens.refused(now.secret)
        return cls._open(server, login.now(limit), limit)

    @classmethod
    def _open(cls, server: SmtpServer, login: Login | None, limit: Callable[[], float]) -> Connection:
        if limit() <= 0:
            raise Unreachable("too little of the run is left", enhanced="4.4.7")
        made = cls(server, Wire(connect(server, limit), server.socket_timeout, limit))
        try:
            made.wire.show(str(server))
            made._start(login)
        except BaseException as error:
            made.close()
            if isinstance(error, Lost):
                raise Unreachable(f"{server} did not open a session: {error}", enhanced="4.4.2") from error
            raise
        return made

    def offers(self, keyword: str) -> bool:
        """True if the server offers an extension."""
        return keyword in self.extensions

    def reset(self) -> None:
        """Abort a transaction (RSET)."""
        try:
            if not self.broken and not self.wire.command("RSET").positive:
                self.broken = True
        except Lost:
            self.broken = True

    def alive(self) -> bool:
        """True if an idle session is still open, as far as the client knows without a command."""
        try:
            return not self.broken and self.wire.early_reply() is None
        except Lost:
            return False

    def quit(self) -> None:
        """Send QUIT and close."""
        if not self.broken:
            with suppress(Lost):
                self.wire.limit = lambda: PARTING
                self.wire.command("QUIT")
        self.close()

    def close(self) -> None:
        """Close without a command."""
        self.broken = True
        self.wire.close()

    def _start(self, login: Login | None) -> None:
        server = self.server
        if server.implicit_tls:
            self._encrypt()
        greeting = self.wire.reply(server.greeting_timeout)
        if not greeting.positive:
            raise self._refused("greeted with", greeting)
        self._hello()
        if not server.implicit_tls and server.starttls != "never":
            self._upgrade()
        if login is None:
            return
        offered = frozenset(self.extensions.get("AUTH", "").upper().split())
        mechanisms = choose(offered, login, encrypted=self.wire.encrypted)
        if mechanisms:
            authenticate(self.wire, mechanisms, login, server)
            self.user = login.user
        elif offered:
            known = " ".join(sorted(offered))
            raise Unreachable(f"{server} offers no login that fits, only {known}", enhanced="4.7.4")
        else:
            # As Nodemailer does, because a server that requires a login says so in its own words.
            log.warning("the server offers no login, going on without", extra={"server": str(server)})

    def _upgrade(self) -> None:
        if "STARTTLS" not in self.extensions:
            if self.server.starttls == "always":
                raise Unreachable(f"{self.server} offers no STARTTLS, which is required", enhanced="4.7.4")
            return
        reply = self.wire.command("STARTTLS")
        if reply.code != 220:
            raise self._refused("said to STARTTLS", reply)
        if self.wire.unread:
            # RFC 3207 section 4.2: discard the server's words in clear text, because TLS did not
            # verify it.
            raise Unreachable(f"{self.server} sent more before TLS than it may", enhanced="4.7.5")
        self._encrypt()
        self._hello()

    def _encrypt(self) -> None:
        server = self.server
        try:
            self.wire.start_tls(server.context, server.servername or server.host, server.greeting_timeout)
        except ssl.SSLCertVerificationError as error:
            reason = f"its certificate is not trusted: {error.verify_message}"
            raise Unreachable(f"{server}: {reason}", enhanced="4.7.5") from error
        except TimeoutError as error:
            raise Unreachable(f"{server}: TLS was not set up in time", enhanced="4.4.2") from error
        except OSError as error:
            reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
            raise Unreachable(f"{server}: TLS failed: {reason}", enhanced="4.7.5") from error

    def _hello(self) -> None:
        name = self.server.hello or own_name(self.wire.own_address)
        verb = "LHLO" if self.server.lmtp else "EHLO"
        reply = self.wire.command(f"{verb} {name}")
        if reply.positive:
            self.extensions = _extensions(reply)
            return
        if not reply.permanent or self.server.lmtp:
            raise self._refused(f"said to {verb}", reply)
        # RFC 5321 section 3.2: for an older server.
        self.extensions = {}
        reply = self.wire.command(f"HELO {name}")
        if not reply.positive:
            raise self._refused("said to HELO", reply)

    def _refused(self, when: str, reply: ServerReply) -> Unreachable:
        # A reply of any class here concerns the session, not a mail.
        return Unreachable(f"{self.server} {when}: {reply}", enhanced=f"4{reply.enhanced[1:]}")


def own_name(address: str) -> str:
    """The client's name for EHLO: the machine's if it is fully qualified, else the address of the
    connection as a literal (RFC 5321 section 4.1.3)."""
    name = socket.gethostname()
    if "." in name.strip(".") and name.isascii() and " " not in name:
        return name
    return f"[IPv6:{address.partition('%')[0]}]" if ":" in address else f"[{address}]"


def _extensions(reply: ServerReply) -> dict[str, str]:
    """EHLO keywords in upper case, with their parameters. Some servers write AUTH as `AUTH=LOGIN`."""
    found: dict[str, str] = {}
    for line in reply.lines[1:]:
        keyword, _, rest = line.replace("AUTH=", "AUTH ", 1).strip().partition(" ")
        key = keyword.upper()
        found[key] = f"{found[key]} {rest}" if key in found else rest
    return found
