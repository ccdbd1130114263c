"""`send`: one test mail, sent as applications send it."""

from __future__ import annotations

import argparse
import getpass
import mimetypes
import os
import re
import smtplib
import sys
from email import policy
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Final

from functions.errors import ConfigError
from functions.options.secrets import Secret, SecretResolver
from functions.options.types import check_field_name, check_field_value
from listener.cli.mails.dialogue import connected, dialogue, reply_text

_SUBMISSIONS: Final = 465  # RFC 8314 section 7.3
_DEFAULT_PORT: Final = 10_025
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server", default="localhost:10025", metavar="HOST[:PORT]")
    parser.add_argument("--from", dest="sender", default="", metavar="ADDRESS", help="the reverse-path")
    parser.add_argument("--to", action="append", required=True, metavar="ADDRESS", help="may be repeated")
    parser.add_argument("--subject", default="A test mail")
    parser.add_argument("--header", action="append", default=[], metavar="NAME: VALUE")
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
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--verbose", "-v", action="store_true", help="show the dialogue")


def run(arguments: argparse.Namespace) -> int:
    """Send the mail and print the answer. Returns 0, or 1 if a recipient was refused or the server
    could not be reached. Raises ConfigError for arguments that do not make a mail."""
    host, port = address(arguments.server, secure=arguments.tls_on_connect)
    recipients = [one.strip() for each in arguments.to for one in each.split(",") if one.strip()]
    mail = _data(arguments.data) if arguments.data else message(arguments, recipients)
    credentials = _credentials(arguments.auth)
    try:
        with connected(arguments, host, port) as client:
            refused = dialogue(client, arguments, credentials, recipients, mail)
    except smtplib.SMTPResponseException as answer:
        print(f"refused: {answer.smtp_code} {reply_text(answer.smtp_error)}", file=sys.stderr)
        return 1
    except (OSError, UnicodeError, smtplib.SMTPException) as fault:
        print(f"{host}:{port}: {fault}", file=sys.stderr)
        return 1
    for recipient, (code, text) in refused.items():
        print(f"refused: {recipient}: {code} {reply_text(text)}", file=sys.stderr)
    if refused.keys() == set(recipients):
        print("no recipient was accepted", file=sys.stderr)
    return 1 if refused else 0


def address(text: str, *, secure: bool = False) -> tuple[str, int]:
    """`HOST`, `HOST:PORT` or `[IPv6]:PORT`. Raises ConfigError."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::(\d{1,5}))?", text)
    if found is None or int(found[2] or 0) > 65_535:
        raise ConfigError("--server", f"{text!r} is not HOST:PORT")
    port = int(found[2]) if found[2] else (_SUBMISSIONS if secure else _DEFAULT_PORT)
    return found[1].strip("[]"), port


def message(arguments: argparse.Namespace, recipients: list[str]) -> bytes:
    """The mail of subject, headers, body and attachments. Raises ConfigError."""
    ascii_only = "".join([arguments.sender, *recipients]).isascii()
    mail = EmailMessage(policy=policy.SMTP if ascii_only else policy.SMTPUTF8)
    try:
        mail["From"] = arguments.sender or "smtp-relay@localhost"
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
