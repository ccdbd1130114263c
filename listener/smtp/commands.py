"""The SMTP commands (RFC 5321 section 4.1.1), each a function of the connection and its argument."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from functions.ids import uuid7
from listener.api.decision import Reply
from listener.api.session import Transaction
from listener.smtp import stream as link
from listener.smtp.address import BadPath, Path, parse_path
from listener.smtp.auth import auth
from listener.smtp.connection import Connection
from listener.smtp.xtext import printable

OK: Final = Reply(250, "2.0.0", "OK")
SENDER_OK: Final = Reply(250, "2.1.0", "Sender OK")
RECIPIENT_OK: Final = Reply(250, "2.1.5", "Recipient OK")
GO_AHEAD: Final = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
GOODBYE: Final = Reply(221, "2.0.0", "Bye")
MAYBE: Final = Reply(252, "2.5.2", "Cannot VRFY user, but will accept the message and attempt delivery")
NO_HELO: Final = Reply(503, "5.5.1", "Send HELO or EHLO first")
NO_MAIL: Final = Reply(503, "5.5.1", "Send MAIL first")
NO_RCPT: Final = Reply(503, "5.5.1", "Send RCPT first")
NO_VALID_RCPT: Final = Reply(554, "5.5.1", "No valid recipients")
NESTED: Final = Reply(503, "5.5.1", "A mail is already begun; send RSET to give it up")
BAD_MAIL: Final = Reply(501, "5.5.4", "Syntax: MAIL FROM:<address> [parameters]")
BAD_RCPT: Final = Reply(501, "5.5.4", "Syntax: RCPT TO:<address> [parameters]")
BAD_SENDER: Final = Reply(501, "5.1.7", "Bad sender address syntax")
BAD_RECIPIENT: Final = Reply(501, "5.1.3", "Bad recipient address syntax")
NO_ARGUMENT: Final = Reply(501, "5.5.4", "This command takes no argument")
WANTS_ARGUMENT: Final = Reply(501, "5.5.4", "This command needs an argument")
TOO_MANY_RECIPIENTS: Final = Reply(452, "4.5.3", "Too many recipients")
TOO_MANY_MESSAGES: Final = Reply(421, "4.7.0", "Too many messages on this connection")
NEEDS_UTF8: Final = Reply(553, "5.6.7", "Non-ASCII addresses need SMTPUTF8")
TOO_BIG: Final = Reply(552, "5.3.4", "Message size exceeds the limit")

TLS_READY: Final = Reply(220, "2.0.0", "Ready to start TLS")
TLS_ACTIVE: Final = Reply(503, "5.5.1", "TLS is already active")
NO_TLS: Final = Reply(454, "4.7.0", "TLS is not available due to a temporary reason")
TLS_PIPELINED: Final = Reply(554, "5.5.1", "Nothing may follow STARTTLS before the handshake")

MAX_ENVID: Final = 100  # RFC 3461 section 4.4: characters of xtext
MAX_ORCPT: Final = 500  # RFC 3461 section 4.2

MAX_HELO: Final = 255  # RFC 5321 section 4.5.3.1.2: a domain

_NOTIFY: Final = frozenset({"SUCCESS", "FAILURE", "DELAY"})  # RFC 3461 section 4.1
_ADDRESS_TYPE: Final = re.compile(r"[A-Za-z0-9!#$%&'*/?^_`{|}~-]+")  # RFC 3461 section 4.2: an atom
_BODY: Final = frozenset({"7BIT", "8BITMIME"})  # RFC 6152 section 2


def helo(connection: Connection, argument: str) -> None:
    """HELO: RFC 5321 section 4.1.1.1."""
    if _greet(connection, argument, esmtp=False):
        connection.reply(Reply(250, "", connection.port.hello(connection)))


def ehlo(connection: Connection, argument: str) -> None:
    """EHLO, and LHLO of LMTP (RFC 2033 section 4.1)."""
    if _greet(connection, argument, esmtp=True):
        connection.write(connection.port.extensions(connection))


def _greet(connection: Connection, argument: str, *, esmtp: bool) -> bool:
    name = argument.strip()
    if not name or len(name) > MAX_HELO or not name.isprintable():
        connection.error(Reply(501, "5.5.4", "Syntax: EHLO hostname" if esmtp else "Syntax: HELO hostname"))
        return False
    if connection.idle():
        return False
    connection.reset_transaction()
    connection.forwarded = None
    connection.session.helo = name
    connection.session.esmtp = esmtp
    return True


def mail(connection: Connection, argument: str) -> None:
    """MAIL: RFC 5321 section 4.1.1.2."""
    port = connection.port
    if not connection.session.helo:
        connection.error(NO_HELO)
        return
    if connection.transaction is not None:
        connection.error(NESTED)
        return
    if connection.takes_no_more:
        connection.finish(link.SHUTTING_DOWN)
        return
    if port.max_messages and connection.messages >= port.max_messages:
        connection.finish(TOO_MANY_MESSAGES, linger=True)
        return
    if argument[:5].upper() != "FROM:":
        connection.error(BAD_MAIL)
        return
    try:
        path = parse_path(argument[5:])
    except BadPath as bad:
        connection.error(BAD_MAIL if bad.parameter else BAD_SENDER)
        return
    transaction = Transaction(uuid7(), path.address)
    if connection.forwarded is not None:
        transaction.forwarded, connection.forwarded = connection.forwarded, None
    if path.parameters:
        refusal = _mail_parameters(connection, path, transaction)
        if refusal is not None:
            if refusal is TOO_BIG:
                port.refusals.mail(connection.session, transaction, refusal, "mail")
            connection.error(refusal)
            return
    if not path.address.isascii() and not transaction.smtputf8:
        connection.error(NEEDS_UTF8)
        return
    outcome = connection.flows.mail(transaction)
    if outcome is None:
        _mail_decided(connection, transaction, None)
    else:
        connection.settle(outcome, partial(_mail_decided, connection, transaction))


def _mail_decided(connection: Connection, transaction: Transaction, refusal: Reply | None) -> None:
    if refusal is not None:
        connection.port.refusals.mail(connection.session, transaction, refusal, "mail")
        connection.flows.reset()
        if not connection.idle():
            connection.reply(refusal)
            connection.hang_up_after(refusal)
        return
    connection.transaction = transaction
    connection.refused_recipients = 0
    connection.reply(SENDER_OK)


def _mail_parameters(connection: Connection, path: Path, transaction: Transaction) -> Reply | None:
    port = connection.port
    words: list[str] = []
    seen: set[str] = set()
    for keyword, value in path.parameters:
        if keyword in seen or not connection.session.esmtp:
            return BAD_MAIL
        seen.add(keyword)
        if keyword == "SIZE":  # RFC 1870 section 3
            if value is None or not (value.isascii() and value.isdigit()) or len(value) > 20:
                return Reply(501, "5.5.4", "Syntax: SIZE=octets")
            if int(value) > port.max_size:
                return TOO_BIG
        elif keyword == "BODY" and port.eightbitmime:
            if value is None or value.upper() not in _BODY:
                return Reply(501, "5.5.4", "BODY is 7BIT or 8BITMIME")
            value = value.upper()  # noqa: PLW2901
        elif keyword == "SMTPUTF8" and port.smtputf8:  # RFC 6531 section 3.4: no value
            if value is not None:
                return Reply(501, "5.5.4", "SMTPUTF8 takes no value")
        elif keyword == "AUTH" and port.offers_auth:  # RFC 4954 section 5
            if value is None or not printable(value):
                return Reply(501, "5.5.4", "Syntax: AUTH=mailbox")
        elif keyword == "RET" and port.dsn:  # RFC 3461 section 4.3
            if value is None or value.upper() not in {"FULL", "HDRS"}:
                return Reply(501, "5.5.4", "RET is FULL or HDRS")
            value = value.upper()  # noqa: PLW2901
        elif keyword == "ENVID" and port.dsn:  # RFC 3461 section 4.4
            if value is None or len(value) > MAX_ENVID or not printable(value):
                return Reply(501, "5.5.4", "Syntax: ENVID=xtext")
        else:
            return Reply(555, "5.5.4", f"MAIL parameter not recognised: {keyword[:40]}")
        words.append(keyword if value is None else f"{keyword}={value}")
    transaction.parameters = tuple(words)
    return None


def rcpt(connection: Connection, argument: str) -> None:
    """RCPT: RFC 5321 section 4.1.1.3."""
    transaction, port = connection.transaction, connection.port
    if transaction is None:
        connection.error(NO_MAIL)
        return
    if len(transaction.recipients) >= port.max_recipients:
        connection.refused_recipients += 1
        if connection.refused_recipients > port.max_recipients:
            connection.finish(link.TOO_MANY_ERRORS, linger=True)
        else:
            connection.reply(TOO_MANY_RECIPIENTS)
        return
    if argument[:3].upper() != "TO:":
        connection.error(BAD_RCPT)
        return
    try:
        path = parse_path(argument[3:])
    except BadPath as bad:
        connection.error(BAD_RCPT if bad.parameter else BAD_RECIPIENT)
        return
    if not path.address:
        connection.error(BAD_RECIPIENT)
        return
    words: tuple[str, ...] = ()
    if path.parameters:
        refusal, words = _rcpt_parameters(connection, path)
        if refusal is not None:
            connection.error(refusal)
            return
    if not path.address.isascii():
        if not transaction.smtputf8:
            connection.error(NEEDS_UTF8)
            return
        if (refusal := port.refuses_address(path.address)) is not None:
            port.refusals.mail(connection.session, transaction, refusal, "rcpt", path.address)
            connection.reply(refusal)
            return
    outcome = connection.flows.rcpt(transaction, path.address)
    if outcome is None:
        _rcpt_decided(connection, transaction, path.address, words, None)
        return
    connection.settle(outcome, partial(_rcpt_decided, connection, transaction, path.address, words))


def _rcpt_parameters(connection: Connection, path: Path) -> tuple[Reply | None, tuple[str, ...]]:
    words: list[str] = []
    seen: set[str] = set()
    for keyword, value in path.parameters:
        if keyword in seen or not connection.session.esmtp:
            return BAD_RCPT, ()
        seen.add(keyword)
        if keyword == "NOTIFY" and connection.port.dsn:  # RFC 3461 section 4.1
            value = (value or "").upper()  # noqa: PLW2901
            choices = value.split(",")
            if choices != ["NEVER"] and not _NOTIFY.issuperset(choices):
                return Reply(501, "5.5.4", "NOTIFY is NEVER, or some of SUCCESS, FAILURE, DELAY"), ()
        elif keyword == "ORCPT" and connection.port.dsn:  # RFC 3461 section 4.2
            if value is None or not _original_recipient(value):
                return Reply(501, "5.5.4", "Syntax: ORCPT=type;xtext"), ()
        else:
            return Reply(555, "5.5.4", f"RCPT parameter not recognised: {keyword[:40]}"), ()
        words.append(f"{keyword}={value}")
    return None, tuple(words)


def _original_recipient(value: str) -> bool:
    """Whether that is an address type and an address (RFC 3461 section 4.2; RFC 6533 section 3 for
    `utf-8`, whose address is checked by nobody but the one who reads it)."""
    kind, _, text = value.partition(";")
    if not text or len(value) > MAX_ORCPT or not _ADDRESS_TYPE.fullmatch(kind):
        return False
    return kind.lower() == "utf-8" or printable(text)


def _rcpt_decided(
    connection: Connection,
    transaction: Transaction,
    address: str,
    words: tuple[str, ...],
    refusal: Reply | None,
) -> None:
    if refusal is not None:
        connection.port.refusals.mail(connection.session, transaction, refusal, "rcpt", address)
        connection.refused_recipients += 1
        connection.reply(refusal)
        if connection.refused_recipients > connection.port.max_recipients:
            connection.finish(link.TOO_MANY_ERRORS, linger=True)
            return
        connection.hang_up_after(refusal)
        return
    transaction.recipients.append(address)
    transaction.recipient_parameters.append(words)
    connection.reply(RECIPIENT_OK)


def data(connection: Connection, argument: str) -> None:
    """DATA: RFC 5321 section 4.1.1.4."""
    transaction = connection.transaction
    if argument.strip():
        connection.error(NO_ARGUMENT)
    elif transaction is None:
        connection.error(NO_MAIL)
    elif not transaction.recipients:
        # RFC 2033 section 4.2 asks LMTP for 503; RFC 5321 section 3.3 allows 554 after refusals.
        lmtp = connection.session.lmtp
        connection.error(NO_VALID_RCPT if connection.refused_recipients and not lmtp else NO_RCPT)
    elif (refusal := connection.port.refuses_mail()) is not None:
        connection.port.refusals.mail(connection.session, transaction, refusal, "data")
        connection.reply(refusal)
        connection.reset_transaction()
    elif connection.naming is not None:
        # The mail will tell the client's name; the search for it ends within seconds.
        connection.settle(connection.naming_done(), lambda _: data(connection, ""))
    else:
        connection.reply(GO_AHEAD)
        connection.flush()
        connection.start_data(connection.port.intake.capture(connection.session, transaction))


def rset(connection: Connection, argument: str) -> None:
    """RSET: RFC 5321 section 4.1.1.5."""
    if argument.strip():
        connection.error(NO_ARGUMENT)
    elif not connection.idle():
        connection.reset_transaction()
        connection.reply(OK)


def noop(connection: Connection, argument: str) -> None:
    """NOOP: RFC 5321 section 4.1.1.9."""
    if not connection.idle():
        connection.reply(OK)


def vrfy(connection: Connection, argument: str) -> None:
    """VRFY: RFC 5321 section 7.3 lets a server tell nothing."""
    if not argument.strip():
        connection.error(WANTS_ARGUMENT)
    elif not connection.idle():
        connection.reply(MAYBE)


def expn(connection: Connection, argument: str) -> None:
    """EXPN: known and not offered (RFC 5321 section 4.2.4)."""
    connection.error(Reply(502, "5.5.1", "EXPN is not offered"))


def help_(connection: Connection, argument: str) -> None:
    """HELP: RFC 5321 section 4.1.1.8."""
    if not connection.idle():
        names = " ".join(sorted(verb.decode() for verb in connection.port.verbs if verb.isupper()))
        connection.reply(Reply(214, "2.0.0", f"Commands: {names}"))


def starttls(connection: Connection, argument: str) -> None:
    """STARTTLS: RFC 3207."""
    if argument.strip():
        connection.error(NO_ARGUMENT)
    elif connection.tls_active:
        connection.error(TLS_ACTIVE)
    elif connection.port.tls is None:
        connection.reply(NO_TLS)
    elif connection.waiting:
        # Somebody between the client and us may have put it there, to be taken for the client's
        # own words once these are encrypted.
        connection.finish(TLS_PIPELINED, linger=True)
    else:
        connection.reply(TLS_READY)
        connection.flush()
        connection.start_tls(partial(_encrypted, connection))


def _encrypted(connection: Connection) -> None:
    """What the client said in clear text is forgotten (RFC 3207 section 4.2)."""
    connection.reset_transaction()
    connection.flows.restart()
    connection.session.helo = ""
    connection.session.esmtp = False
    connection.forwarded = None
    connection.state = link.COMMAND


def quit_(connection: Connection, argument: str) -> None:
    """QUIT: RFC 5321 section 4.1.1.10."""
    if argument.strip():
        connection.error(NO_ARGUMENT)
    else:
        connection.finish(GOODBYE)


Verb = Callable[[Connection, str], Any]

SMTP_VERBS: Final[Mapping[str, Verb]] = {
    "HELO": helo,
    "EHLO": ehlo,
    "MAIL": mail,
    "RCPT": rcpt,
    "DATA": data,
    "RSET": rset,
    "NOOP": noop,
    "VRFY": vrfy,
    "EXPN": expn,
    "HELP": help_,
    "QUIT": quit_,
    "AUTH": auth,
    "STARTTLS": starttls,
}

LMTP_VERBS: Final[Mapping[str, Verb]] = {
    "LHLO": ehlo,
    **{name: verb for name, verb in SMTP_VERBS.items() if name not in {"HELO", "EHLO"}},
}
"""RFC 2033 section 4.1: LHLO takes the place of HELO and EHLO."""
