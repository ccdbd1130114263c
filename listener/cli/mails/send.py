"""`send`: one test mail, sent as applications send it."""

from __future__ import annotations

import argparse
import getpass
import mimetypes
import os
import re
import sys
from email import policy
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Final

from functions.errors import ConfigError
from functions.message.text import UNFIT_FOR_FIELD
from functions.options.secrets import Secret, SecretResolver
from functions.options.types import check_field_name, check_field_value
from listener.cli.arguments import port, seconds
from listener.cli.mails.dialogue import deliver
from listener.cli.mails.place import place
from listener.cli.parser import give_examples
from listener.config.listeners import DEFAULT_PORT
from listener.smtp.address import BadPath, parse_path

_SENDER: Final = "sender@localhost"
_SHOWN: Final = 60
_LABEL: Final = 63  # RFC 1035 section 2.3.4
_NAME: Final = re.compile(r"[!-~]{1,255}")
_ADDRESSES: Final = re.compile(r'(?:"(?:\\.|[^"\\])*"|[^,"]|")+')
"""The addresses of a list with commas, which a quoted local part may hold too."""

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipients", nargs="*", metavar="RECIPIENT", help="an address, or several")
    parser.add_argument("--to", action="append", default=[], metavar="ADDRESS", help="a recipient too")
    parser.add_argument(
        "--from", dest="sender", default=_SENDER, metavar="ADDRESS", help="the reverse-path, '' for none"
    )
    parser.add_argument(
        "--server",
        metavar="HOST[:PORT]",
        help="else the one that SMTP_RELAY_PORT or the configuration of this folder describes, else "
        f"localhost:{DEFAULT_PORT}",
    )
    parser.add_argument("--port", type=port, metavar="PORT", help="the server's port")
    parser.add_argument("--subject", default="A test mail")
    parser.add_argument("--header", action="append", default=[], metavar="NAME:VALUE")
    parser.add_argument(
        "--body", default="This is a test mail.", metavar="TEXT", help="@FILE, or - for stdin"
    )
    parser.add_argument("--attach", action="append", default=[], type=Path, metavar="FILE")
    parser.add_argument(
        "--data",
        metavar="FILE",
        help="the whole mail, sent unchanged (- for stdin), instead of the four above",
    )
    parser.add_argument(
        "--auth", metavar="USER[:PASSWORD]", help="the password may be env:NAME or file://PATH"
    )
    parser.add_argument("--tls", action="store_true", help="STARTTLS, or fail")
    parser.add_argument("--tls-on-connect", action="store_true", help="TLS from the first byte")
    parser.add_argument("--insecure", action="store_true", help="accept any certificate")
    parser.add_argument("--helo", metavar="NAME", help="the client's host name")
    parser.add_argument("--lmtp", action="store_true", help="speak LMTP")
    parser.add_argument("--timeout", type=seconds, default=60.0, metavar="SECONDS")
    parser.add_argument("--verbose", "-v", action="store_true", help="show the dialogue")
    give_examples(
        parser,
        "smtp-relay send you@example.com",
        "smtp-relay send --port 2525 --from me@example.com --attach report.pdf you@example.com",
        "smtp-relay send --server mail.example.com:587 --tls --auth me:env:PASSWORD you@example.com",
        "printf 'Subject: as it is\\n\\nbody\\n' | smtp-relay send --data - you@example.com",
    )


def run(arguments: argparse.Namespace) -> int:
    """Send the mail and print the answer. Returns 0, or 1 if a recipient was refused or the server
    could not be reached. Raises ConfigError for arguments that do not make a mail."""
    given = [one for each in (*arguments.recipients, *arguments.to) for one in _ADDRESSES.findall(each)]
    recipients = [mailbox(one) for one in given if one.strip()]
    if not recipients:
        raise ConfigError("send", "no recipient", "smtp-relay send you@example.com")
    arguments.sender = "" if arguments.sender in {"", "<>"} else mailbox(arguments.sender)
    if arguments.helo and not _NAME.fullmatch(arguments.helo):
        raise ConfigError("--helo", f"{arguments.helo!r} is not a host name")
    where = place(arguments.server, arguments.port, os.environ, secure=arguments.tls_on_connect)
    arguments.tls_on_connect |= where.secure
    arguments.lmtp |= where.lmtp
    try:
        mail = _data(arguments.data) if arguments.data else message(arguments, recipients)
    except UnicodeError as error:
        raise ConfigError("send", "the mail holds a character that is not UTF-8") from error
    failed = deliver(where, arguments, _credentials(arguments.auth), recipients, mail)
    for line in failed:
        print(line, file=sys.stderr)
    return 1 if failed else 0


def mailbox(text: str) -> str:
    """An address to write into MAIL or RCPT (RFC 5321 sections 4.1.2 and 4.5.3.1). Raises ConfigError."""
    address = text.strip(" ")
    address = address[1:-1] if address.startswith("<") and address.endswith(">") else address
    if reason := _unfit(address):
        shown = address if len(address) <= _SHOWN else f"{address[:_SHOWN]}…"
        raise ConfigError(repr(shown), reason, "an address is like you@example.com")
    return address


def _unfit(address: str) -> str:
    """The reason against an address, "" if there is none."""
    local, _, domain = address.rpartition("@")
    if UNFIT_FOR_FIELD.search(address) or not address.replace(" ", "").isprintable():
        return "holds a control character, or one that is not UTF-8"
    if any(one.isspace() for one in domain) or (not address.startswith('"') and " " in address):
        return "holds a blank"
    if not local and domain.lower() == "postmaster":
        return ""  # RFC 5321 section 4.1.1.3
    if not local or not domain:
        return "has no local part" if "@" in address and domain else "has no domain"
    for what, part, most in (("local part", local, 64), ("domain", domain, 255), ("address", address, 254)):
        if len(part.encode()) > most:
            return f"is too long: its {what} has more than {most} bytes"
    if not domain.startswith("[") and not all(0 < len(label) <= _LABEL for label in domain.split(".")):
        return "has a domain with an empty or too long part between dots"
    try:
        parse_path(f"<{address}>")
    except BadPath:
        return "is not an address"
    return ""


def message(arguments: argparse.Namespace, recipients: list[str]) -> bytes:
    """The mail of subject, headers, body and attachments. Raises ConfigError."""
    ascii_only = "".join([arguments.sender, *recipients]).isascii()
    mail = EmailMessage(policy=policy.SMTP if ascii_only else policy.SMTPUTF8)
    try:
        check_field_value(arguments.subject)
        mail["From"] = arguments.sender or _SENDER
        mail["To"] = ", ".join(recipients)
        mail["Subject"] = arguments.subject
    except ValueError as error:
        raise ConfigError("send", f"is not possible in a header field: {error}") from error
    mail["Date"] = formatdate(localtime=True)
    mail["Message-ID"] = make_msgid(domain=arguments.helo or "smtp-relay.invalid")
    for line in arguments.header:
        name, colon, value = line.partition(":")
        try:
            check_field_name(name)
            check_field_value(value)
        except ValueError as error:
            raise ConfigError("--header", str(error)) from error
        if not colon:
            raise ConfigError("--header", f"{line!r} is not NAME: VALUE")
        del mail[name]
        mail[name] = value.strip()
    mail.set_content(_body(arguments.body))
    for path in arguments.attach:
        kind, _ = mimetypes.guess_type(path.name)
        main, _, sub = (kind or "application/octet-stream").partition("/")
        mail.add_attachment(_read(path), maintype=main, subtype=sub, filename=path.name)
    return mail.as_bytes()


def _credentials(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    user, colon, password = text.partition(":")
    if not colon:
        return user, getpass.getpass(f"Password of {user}: ")
    return user, Secret(password).resolve(SecretResolver(Path.cwd(), os.environ)) if password else ""


def _body(text: str) -> str:
    if text == "-":
        return sys.stdin.read()
    return _read(Path(text[1:])).decode(errors="replace") if text.startswith("@") else text


def _data(name: str) -> bytes:
    data = sys.stdin.buffer.read() if name == "-" else _read(Path(name))
    return _LINE_END.sub(b"\r\n", data)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from error
