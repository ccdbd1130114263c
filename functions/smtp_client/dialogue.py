"""The lines of an SMTP dialogue as logs show them at DEBUG: no line holds a login.

It is the same for the server's connections and for those of the client. What may be a login is hidden by
its shape, wherever it stands: a client may send a password as a command, after an exchange that failed.
"""

from __future__ import annotations

import logging
import re
from typing import Final

from functions.message.text import escaped

log: Final = logging.getLogger("smtp_relay.dialogue")

HIDDEN: Final = "***"

MOST: Final = 1_000
"""Most characters of a line that the log shows."""

_MECHANISM: Final = re.compile(
    r"PLAIN|LOGIN|CRAM-MD5|XOAUTH2?|OAUTHBEARER|DIGEST-MD5|NTLM|GSSAPI|EXTERNAL|SCRAM-SHA-(?:1|256)(?:-PLUS)?",
    re.IGNORECASE,
)
_NAME: Final = re.compile(r"[^\s@=]{1,255}\s*")
# Blanks stand between pairs, because a value may hold "=": a line of "A=A=A=" would match in too many ways.
_PAIRS: Final = re.compile(r"[A-Z]+=\S*(?:\s+[A-Z]+=\S*)*\s*", re.IGNORECASE)

_SHOWN: Final = {
    "HELO": _NAME,
    "EHLO": _NAME,
    "LHLO": _NAME,
    "MAIL": re.compile(r"\s*FROM\s*:.*", re.IGNORECASE | re.DOTALL),
    "RCPT": re.compile(r"\s*TO\s*:.*", re.IGNORECASE | re.DOTALL),
    "XCLIENT": _PAIRS,
    "XFORWARD": _PAIRS,
}
"""Commands whose argument is shown, and its form."""

_PARAMETER: Final = re.compile(r"(?<=\s)([A-Za-z][\w-]*)=\S+")
_KNOWN: Final = {
    "SIZE",
    "BODY",
    "RET",
    "ENVID",
    "NOTIFY",
    "ORCPT",
    "BY",
    "HOLDFOR",
    "HOLDUNTIL",
    "MT-PRIORITY",
    "RRVS",
} | {"NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT", "SOURCE", "IDENT"}
"""Parameters whose value is shown."""

_BARE: Final = frozenset(
    {"DATA", "RSET", "NOOP", "QUIT", "HELP", "VRFY", "EXPN", "STARTTLS", "BDAT", "ETRN", "TURN", "ATRN"}
)
"""Further commands, whose names are shown."""


def shows() -> bool:
    """True if the log takes dialogues."""
    return log.isEnabledFor(logging.DEBUG)


def client_line(line: str) -> str:
    """One command line of a client. The name of an unknown command is hidden, too."""
    verb, _, argument = line.partition(" ")
    name = verb.strip().upper()
    if name == "AUTH" or name.startswith("AUTH\t"):
        words = f"{verb} {argument}".split()
        mechanism = words[1] if len(words) > 1 and _MECHANISM.fullmatch(words[1]) else ""
        rest = len(words) > 1 + bool(mechanism)
        return " ".join(filter(None, [words[0], mechanism, HIDDEN if rest else ""]))
    if not argument and (name in _SHOWN or name in _BARE):
        return _bounded(verb)
    form = _SHOWN.get(name)
    if form is not None and form.fullmatch(argument):
        return _bounded(_PARAMETER.sub(_parameter, line))
    if form is not None or name in _BARE:
        return f"{verb} {HIDDEN}"
    return f"{HIDDEN} (no command)"


def is_name(text: str) -> bool:
    """True if HELO or EHLO may show this name."""
    return _NAME.fullmatch(text) is not None


def server_line(line: str) -> str:
    """One line of a server's reply. A challenge is hidden: it may hold the reason of a refused token."""
    if line.startswith("334"):
        return f"334 {HIDDEN}"
    return _bounded(line)


def tell(side: str, line: str, **about: object) -> None:
    """Log one line of `C` or `S` that has nothing to hide any more."""
    log.debug("%s: %s", side, line, extra=about)


def _parameter(found: re.Match[str]) -> str:
    return found[0] if found[1].upper() in _KNOWN else f"{found[1]}={HIDDEN}"


def _bounded(line: str) -> str:
    return escaped(line if len(line) <= MOST else f"{line[:MOST]}…")
