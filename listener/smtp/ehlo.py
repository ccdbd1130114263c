"""A listener's offers: its greeting, and its answers to HELO and EHLO."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from listener.api.filter import Filter
from listener.api.session import Session
from listener.config.smtp import SmtpOptions

log = logging.getLogger("smtp_relay.smtp")

MECHANISMS: Final = ("PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2")

XCLIENT_NAMES: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")
XFORWARD_NAMES: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")


class Ehlo:
    """The texts of one listener, made once for each set of offers to a connection.

    `mechanisms` are the offered mechanisms of AUTH, `starttls` is true if STARTTLS is offered.
    """

    def __init__(
        self, options: SmtpOptions, hostname: str, *, mechanisms: frozenset[str], starttls: bool
    ) -> None:
        self._options = options
        self._hostname = hostname
        self._mechanisms = mechanisms
        self._starttls = starttls
        self._made: dict[tuple[bool, bool, bool, bool], bytes] = {}
        kind = "LMTP " if options.lmtp else ""
        self.greeting = f"220 {hostname} {kind}{options.banner or 'ESMTP smtp-relay'}\r\n".encode()

    def hello(self, helo: str) -> str:
        """The first line of the answer to HELO and EHLO."""
        response = self._options.helo_response
        if response is None:
            return f"{self._hostname} greets {helo}"
        # In replaced configurations the first %s is the server's name, the second the client's.
        return response.replace("%s", self._hostname, 1).replace("%s", helo, 1)

    def answer(self, session: Session, *, may_xclient: bool, may_xforward: bool) -> bytes:
        """The whole answer to EHLO or LHLO."""
        key = (session.tls is not None, session.user is not None, may_xclient, may_xforward)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self._offer(*key)
        return b"250-" + self.hello(session.helo).encode("utf-8", "replace") + made

    def _offer(self, secure: bool, authenticated: bool, may_xclient: bool, may_xforward: bool) -> bytes:
        options = self._options
        offers: list[str] = []
        if not options.hide_pipelining:
            offers.append("PIPELINING")
        offers.append("SIZE" if options.hide_size else f"SIZE {options.size}")
        if not options.hide_8bitmime:
            offers.append("8BITMIME")
        if not options.hide_smtputf8:
            offers.append("SMTPUTF8")
        if options.offers_dsn:
            offers.append("DSN")
        if self._starttls and not secure:
            offers.append("STARTTLS")
        if self._mechanisms and not authenticated and (secure or options.clear_text_auth):
            names = " ".join(name for name in MECHANISMS if name in self._mechanisms)
            offers.append(f"AUTH {names}")
        if may_xclient:
            offers.append(f"XCLIENT {' '.join(XCLIENT_NAMES)}")
        if may_xforward:
            offers.append(f"XFORWARD {' '.join(XFORWARD_NAMES)}")
        if not options.hide_enhanced_status_codes:
            offers.append("ENHANCEDSTATUSCODES")
        lines = [f"250-{offer}" for offer in offers]
        lines[-1] = "250 " + lines[-1][4:]
        return b"\r\n" + "\r\n".join(lines).encode() + b"\r\n"


def offered_mechanisms(options: SmtpOptions, filters: Iterable[Filter], listener: str) -> frozenset[str]:
    """The mechanisms of AUTH that the options name and the filters of the listener's flows can check."""
    offered = frozenset(options.auth_methods)
    filters = tuple(filters)
    checking = [one for one in filters if one.checks_credentials]
    if not checking or any(one.any_user for one in filters):
        return offered
    known = {name for one in checking for name in one.mechanisms}
    if all(one.supports_cram_md5 for one in checking):
        known.add("CRAM-MD5")
    elif "CRAM-MD5" in offered:
        log.warning(
            "CRAM-MD5 is not offered: not every password is stored as plain:",
            extra={"listener": listener},
        )
    return offered & known
