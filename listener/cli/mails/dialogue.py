"""The dialogue of `send` with a server."""

from __future__ import annotations

import argparse
import smtplib
import socket
import ssl
import sys
from typing import Any, Final

from functions.message.text import one_line
from listener.cli.mails.place import Place

_CURES: Final = {530: "log in with --auth USER", 535: "check the user name and the password of --auth"}
_CURE_TLS: Final = "use --tls"


def deliver(
    place: Place,
    arguments: argparse.Namespace,
    credentials: tuple[str, str] | None,
    recipients: list[str],
    mail: bytes,
) -> list[str]:
    """Send the mail; returns a line for each thing that failed."""
    try:
        with _connected(place, arguments) as client:
            refused = _dialogue(client, arguments, credentials, recipients, mail)
    except smtplib.SMTPResponseException as answer:
        return [_refusal("", answer.smtp_code, answer.smtp_error)]
    except (OSError, UnicodeError, smtplib.SMTPException) as fault:
        return [f"{place}: {_reason(fault, place, arguments)}"]
    lines = [_refusal(f"{recipient}: ", *reply) for recipient, reply in refused.items()]
    return [*lines, "no recipient was accepted"] if refused.keys() == set(recipients) else lines


def _refusal(whom: str, code: int, text: bytes | str) -> str:
    words = reply_text(text)
    cure = _CURE_TLS if code in {530, 538} and "TLS" in words.upper() else _CURES.get(code, "")
    return f"refused: {whom}{code} {words}" + (f" ({cure})" if cure else "")


def _reason(fault: Exception, place: Place, arguments: argparse.Namespace) -> str:
    """A fault in words, with what the user can do."""
    secure = arguments.tls_on_connect
    at_once = "" if secure else "; if the port speaks TLS from the first byte, use --tls-on-connect"
    # smtplib hides a fault of the socket behind one of its own.
    hidden = isinstance(fault, smtplib.SMTPServerDisconnected) and isinstance(fault.__context__, OSError)
    cause = fault.__context__ if hidden else fault
    match cause:
        case ConnectionRefusedError():
            start = "is the server running? smtp-relay serve starts it" if place.here else "is it running?"
            return f"nothing accepts the connection ({start}; --port PORT names another port)"
        case socket.gaierror() | UnicodeError():
            return "no such host (--server names another one)"
        case TimeoutError():
            return f"no answer within {arguments.timeout:g} s (--timeout waits longer{at_once})"
        case ssl.SSLCertVerificationError():
            return f"certificate verify failed: {cause.verify_message} (--insecure accepts any certificate)"
        case ssl.SSLError():
            cure = "leave --tls-on-connect out, or use --tls" if secure else "leave --tls out"
            return f"no TLS connection: {cause.reason or cause} ({cure})"
        case smtplib.SMTPServerDisconnected() | ConnectionError():
            return f"the server closed the connection ({one_line(str(fault))}{at_once})"
        case smtplib.SMTPNotSupportedError() if arguments.tls and "STARTTLS" in str(fault):
            return "the server does not offer STARTTLS (leave --tls out)"
        case OSError():
            return cause.strerror or one_line(str(cause))
    return one_line(str(fault))


def _dialogue(
    client: smtplib.SMTP,
    arguments: argparse.Namespace,
    credentials: tuple[str, str] | None,
    recipients: list[str],
    mail: bytes,
) -> dict[str, tuple[int, bytes]]:
    if arguments.tls:
        client.starttls(context=_context(arguments))
    client.ehlo_or_helo_if_needed()
    if credentials is not None:
        _authenticate(client, *credentials)
    options = [] if "".join([arguments.sender, *recipients]).isascii() else ["SMTPUTF8"]
    if client.has_extn("8bitmime"):
        options.append("BODY=8BITMIME")
    if client.has_extn("size"):
        options.append(f"SIZE={len(mail)}")
    # smtplib reads one reply after DATA; LMTP has one for each recipient (RFC 2033 section 4.2).
    groups = [[one] for one in recipients] if arguments.lmtp else [recipients]
    refused: dict[str, tuple[int, bytes]] = {}
    for group in groups:
        refused.update(_transaction(client, arguments.sender, group, mail, options))
    return refused


def _transaction(
    client: smtplib.SMTP, sender: str, recipients: list[str], mail: bytes, options: list[str]
) -> dict[str, tuple[int, bytes]]:
    """One mail, from MAIL to the reply after DATA, which is printed; returns the refused recipients."""
    code, text = client.mail(sender, options)
    if code != 250:
        raise smtplib.SMTPSenderRefused(code, text, sender)
    replies = {recipient: client.rcpt(recipient) for recipient in recipients}
    refused = {recipient: reply for recipient, reply in replies.items() if reply[0] not in {250, 251}}
    if len(refused) == len(replies):
        client.rset()
        return refused
    code, text = client.data(mail)
    if code != 250:
        raise smtplib.SMTPDataError(code, text)
    print(f"taken: {code} {reply_text(text)}")
    return refused


def _authenticate(client: smtplib.SMTP, user: str, password: str) -> None:
    """AUTH with one mechanism. `login` would try each in turn, and each failure counts."""
    offered = client.esmtp_features.get("auth", "").upper().split()
    client.user, client.password = user, password
    for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5"):
        if mechanism in offered:
            _Spoken.hushed = True
            try:
                client.auth(mechanism, getattr(client, f"auth_{mechanism.lower().replace('-', '_')}"))
            finally:
                _Spoken.hushed = False
            return
    raise smtplib.SMTPNotSupportedError(f"no AUTH mechanism in common: {' '.join(offered) or 'none offered'}")


class _Spoken:
    """Prints the dialogue: `->` for the client, `<-` for the server. While `hushed`, the client's lines
    are not printed: they are a password, and users show dialogues to others."""

    debuglevel = 0
    hushed = False

    def _print_debug(self, *parts: Any) -> None:
        words = " ".join(map(str, parts))
        mark = "->" if words.startswith("send:") else "<-" if words.startswith("reply:") else "  "
        text = words.partition(": ")[2] or words
        print(f"{mark} {'(login)' if self.hushed and mark == '->' else text}", file=sys.stderr)


class _Smtp(_Spoken, smtplib.SMTP):
    pass


class _Smtps(_Spoken, smtplib.SMTP_SSL):
    pass


class _Lmtp(_Spoken, smtplib.LMTP):
    pass


def _connected(place: Place, arguments: argparse.Namespace) -> smtplib.SMTP:
    host, port = place.host, place.port
    name = arguments.helo or socket.gethostname()
    _Spoken.debuglevel = 1 if arguments.verbose else 0
    if arguments.tls_on_connect:
        return _Smtps(host, port, name, timeout=arguments.timeout, context=_context(arguments))
    kind = _Lmtp if arguments.lmtp else _Smtp
    return kind(host, port, name, timeout=arguments.timeout)


def _context(arguments: argparse.Namespace) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if arguments.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def reply_text(answer: bytes | str) -> str:
    """A server's text, made harmless for a terminal."""
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
    return one_line(text)
