"""The SMTP commands (RFC 5321 section 4.1.1), each a function of the connection and its argument."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Final

from functions.ids import uuid7
from listener.api.decision import Reply
from listener.api.session import Transaction
from listener.config.smtp import SmtpOptions
from listener.smtp.address import Path, printable
from listener.smtp.auth import auth
from listener.smtp.connection.machine import Connection
from listener.smtp.endpoint import UNTOLD, Verb
from listener.smtp.replies import (
    BAD_COMMAND,
    BAD_EHLO,
    BAD_HELO,
    BAD_MAIL,
    BAD_RCPT,
    GO_AHEAD,
    GOODBYE,
    MAYBE,
    NEEDS_UTF8,
    NESTED,
    NO_ARGUMENT,
    NO_EXPN,
    NO_HELO,
    NO_MAIL,
    NO_RCPT,
    NO_TLS,
    NO_VALID_RCPT,
    OK,
    RECIPIENT_OK,
    SENDER_OK,
    TLS_ACTIVE,
    TLS_PIPELINED,
    TLS_READY,
    TOO_BIG,
    TOO_MANY_MESSAGES,
    TOO_MANY_RECIPIENTS,
    WANTS_ARGUMENT,
)
from listener.smtp.xclient import xclient, xforward

MAX_ENVID: Final = 100  # RFC 3461 section 4.4: characters of xtext
MAX_ORCPT: Final = 500  # RFC 3461 section 4.2

MAX_HELO: Final = 255  # RFC 5321 section 4.5.3.1.2: a domain

_NOTIFY: Final = frozenset({"SUCCESS", "FAILURE", "DELAY"})  # RFC 3461 section 4.1
_ADDRESS_TYPE: Final = re.compile(r"[A-Za-z0-9!#$%&'*/?^_`{|}~-]+")  # RFC 3461 section 4.2: an atom
_AFTER_HELO: Final = frozenset({"SIZE", "BODY"})
"""Parameters of MAIL that devices send although they said HELO."""

_BODY: Final = frozenset({"7BIT", "8BITMIME"})  # RFC 6152 section 2


def helo(connection: Connection, argument: str) -> None:
    """HELO: RFC 5321 section 4.1.1.1."""
    if _greet(connection, argument, esmtp=False):
        connection.reply(Reply(250, "", connection.endpoint.ehlo.hello(connection.session.helo)))


def ehlo(connection: Connection, argument: str) -> None:
    """EHLO, and LHLO of LMTP (RFC 2033 section 4.1)."""
    if _greet(connection, argument, esmtp=True):
        endpoint, peer = connection.endpoint, connection.opening.trusted_as
        answer = endpoint.ehlo.answer(
            connection.session,
            may_xclient=endpoint.xclients is not None and endpoint.xclients(peer),
            may_xforward=endpoint.xforwards is not None and endpoint.xforwards(peer),
        )
        connection.stream.write(answer)


def _greet(connection: Connection, argument: str, *, esmtp: bool) -> bool:
    name = argument.strip()
    if not name or len(name) > MAX_HELO or not name.isprintable():
        connection.error(BAD_EHLO if esmtp else BAD_HELO)
        return False
    if connection.idle():
        return False
    connection.mail.forget()
    connection.session.greeted(name, esmtp=esmtp)
    return True


def mail(connection: Connection, path: Path | Reply) -> None:
    """MAIL: RFC 5321 section 4.1.1.2."""
    endpoint, session, mails = connection.endpoint, connection.session, connection.mail
    if not session.helo:
        connection.error(NO_HELO)
        return
    if mails.transaction is not None:
        connection.error(NESTED)
        return
    if endpoint.ending is not None and mails.takes_no_more:
        connection.finish(endpoint.ending)
        return
    if 0 < endpoint.limits.max_messages <= mails.messages:
        connection.finish(TOO_MANY_MESSAGES, linger=True)
        return
    if isinstance(path, Reply):
        connection.error(path)
        return
    words: tuple[str, ...] = ()
    if path.parameters:
        refusal, words = _mail_parameters(connection, path)
        if refusal is not None:
            if refusal is TOO_BIG:
                transaction = Transaction(uuid7(), path.address)
                endpoint.refusals.mail(session, transaction, refusal, "mail")
            connection.error(refusal)
            return
    forwarded = None if mails.forwarded is None else mails.take_forwarded()
    transaction = Transaction(uuid7(), path.address, words, forwarded=forwarded)
    if not path.address.isascii() and not transaction.smtputf8:
        connection.error(NEEDS_UTF8)
        return
    outcome = connection.flows.mail(transaction)
    if outcome is None:
        mails.begin(transaction)
        connection.reply(SENDER_OK)
    else:
        connection.pending.settle(outcome, partial(_mail_decided, connection, transaction))


def _mail_decided(connection: Connection, transaction: Transaction, refusal: Reply | None) -> None:
    if refusal is not None:
        connection.endpoint.refusals.mail(connection.session, transaction, refusal, "mail")
        connection.flows.reset()
        if not connection.idle():
            connection.reply(refusal)
            connection.hang_up_after(refusal)
        return
    connection.mail.begin(transaction)
    connection.reply(SENDER_OK)


def _mail_parameters(connection: Connection, path: Path) -> tuple[Reply | None, tuple[str, ...]]:
    options = connection.endpoint.options
    words: list[str] = []
    seen: set[str] = set()
    for keyword, value in path.parameters:
        if keyword in seen or not (connection.session.esmtp or keyword in _AFTER_HELO):
            return BAD_MAIL, ()
        seen.add(keyword)
        if keyword == "SIZE":  # RFC 1870 section 3
            if value is None or not (value.isascii() and value.isdigit()) or len(value) > 20:
                return Reply(501, "5.5.4", "Syntax: SIZE=bytes"), ()
            if int(value) > options.size:
                return TOO_BIG, ()
        elif keyword == "BODY" and not options.hide_8bitmime:
            if value is None or value.upper() not in _BODY:
                return Reply(501, "5.5.4", "BODY is 7BIT or 8BITMIME"), ()
            value = value.upper()  # noqa: PLW2901
        elif keyword == "SMTPUTF8" and not options.hide_smtputf8:  # RFC 6531 section 3.4: no value
            if value is not None:
                return Reply(501, "5.5.4", "SMTPUTF8 takes no value"), ()
        elif keyword == "AUTH" and connection.endpoint.mechanisms:  # RFC 4954 section 5
            if value is None or not printable(value):
                return Reply(501, "5.5.4", "Syntax: AUTH=mailbox"), ()
        elif keyword == "RET" and options.offers_dsn:  # RFC 3461 section 4.3
            if value is None or value.upper() not in {"FULL", "HDRS"}:
                return Reply(501, "5.5.4", "RET is FULL or HDRS"), ()
            value = value.upper()  # noqa: PLW2901
        elif keyword == "ENVID" and options.offers_dsn:  # RFC 3461 section 4.4
            if value is None or len(value) > MAX_ENVID or not printable(value):
                return Reply(501, "5.5.4", "Syntax: ENVID=xtext"), ()
        else:
            return Reply(555, "5.5.4", f"MAIL parameter not recognised: {keyword[:40]}"), ()
        words.append(keyword if value is None else f"{keyword}={value}")
    return None, tuple(words)


def rcpt(connection: Connection, path: Path | Reply) -> None:
    """RCPT: RFC 5321 section 4.1.1.3."""
    endpoint, transaction = connection.endpoint, connection.mail.transaction
    if transaction is None:
        connection.error(NO_MAIL)
        return
    if len(transaction.recipients) >= endpoint.limits.max_recipients:
        connection.mail.refuse_recipient(TOO_MANY_RECIPIENTS)
        return
    if isinstance(path, Reply):
        connection.error(path)
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
        if (refusal := endpoint.acceptor.refuses_address(path.address)) is not None:
            endpoint.refusals.recipient(transaction, path.address, refusal)
            connection.mail.refuse_recipient(refusal)
            return
    outcome = connection.flows.rcpt(transaction, path.address)
    if outcome is None:
        transaction.add(path.address, words)
        connection.reply(RECIPIENT_OK)
        return
    connection.pending.settle(outcome, partial(_rcpt_decided, connection, transaction, path.address, words))


def _rcpt_parameters(connection: Connection, path: Path) -> tuple[Reply | None, tuple[str, ...]]:
    words: list[str] = []
    seen: set[str] = set()
    for keyword, value in path.parameters:
        if keyword in seen or not connection.session.esmtp:
            return BAD_RCPT, ()
        seen.add(keyword)
        if keyword == "NOTIFY" and connection.endpoint.options.offers_dsn:  # RFC 3461 section 4.1
            value = (value or "").upper()  # noqa: PLW2901
            choices = value.split(",")
            if choices != ["NEVER"] and not _NOTIFY.issuperset(choices):
                return Reply(501, "5.5.4", "NOTIFY is NEVER, or some of SUCCESS, FAILURE, DELAY"), ()
        elif keyword == "ORCPT" and connection.endpoint.options.offers_dsn:  # RFC 3461 section 4.2
            if value is None or not _original_recipient(value):
                return Reply(501, "5.5.4", "Syntax: ORCPT=type;xtext"), ()
        else:
            return Reply(555, "5.5.4", f"RCPT parameter not recognised: {keyword[:40]}"), ()
        words.append(f"{keyword}={value}")
    return None, tuple(words)


def _original_recipient(value: str) -> bool:
    """True if that is an address type and an address (RFC 3461 section 4.2; RFC 6533 section 3 for
    `utf-8`, whose address only its reader checks)."""
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
        refusals = connection.endpoint.refusals
        if refusal.code == 530:
            refusals.command(connection.session, refusal)
        refusals.recipient(transaction, address, refusal)
        connection.mail.refuse_recipient(refusal)
        return
    transaction.add(address, words)
    connection.reply(RECIPIENT_OK)


def data(connection: Connection, argument: str) -> None:
    """DATA: RFC 5321 section 4.1.1.4."""
    acceptor, mail, session = connection.endpoint.acceptor, connection.mail, connection.session
    transaction = mail.transaction
    if argument.strip():
        connection.error(NO_ARGUMENT)
    elif transaction is None:
        connection.error(NO_MAIL)
    elif not transaction.recipients:
        # RFC 2033 section 4.2 asks LMTP for 503; RFC 5321 section 3.3 allows 554 after refusals.
        connection.error(NO_VALID_RCPT if mail.refused_recipients and not session.lmtp else NO_RCPT)
    elif (refusal := acceptor.refuses_mail()) is not None:
        acceptor.refusals.mail(session, transaction, refusal, "data")
        connection.reply(refusal)
        mail.reset()
    elif connection.opening.name_pending:
        # The mail gives the client's name; the search for it ends within seconds.
        connection.pending.settle(connection.opening.name_found(), lambda _: data(connection, ""))
    else:
        connection.reply(GO_AHEAD)
        # Its reader changes or refuses all other line ends.
        mail.start(acceptor.intake.capture(session, transaction, crlf=True))


def rset(connection: Connection, argument: str) -> None:
    """RSET: RFC 5321 section 4.1.1.5."""
    if argument.strip():
        connection.error(NO_ARGUMENT)
    elif not connection.idle():
        connection.mail.reset()
        connection.reply(OK)


def noop(connection: Connection, argument: str) -> None:
    """NOOP: RFC 5321 section 4.1.1.9."""
    if not connection.idle():
        connection.reply(OK)


def vrfy(connection: Connection, argument: str) -> None:
    """VRFY: RFC 5321 section 7.3 permits a server to reveal nothing."""
    if not argument.strip():
        connection.error(WANTS_ARGUMENT)
    elif not connection.idle():
        connection.reply(MAYBE)


def expn(connection: Connection, argument: str) -> None:
    """EXPN: known and not offered (RFC 5321 section 4.2.4)."""
    connection.error(NO_EXPN)


def help_(connection: Connection, argument: str) -> None:
    """HELP: RFC 5321 section 4.1.1.8."""
    if not connection.idle():
        names = " ".join(connection.endpoint.verbs.names)
        connection.reply(Reply(214, "2.0.0", f"Commands: {names}"))


def starttls(connection: Connection, argument: str) -> None:
    """STARTTLS: RFC 3207."""
    if argument.strip():
        connection.error(NO_ARGUMENT)
    elif connection.session.tls is not None:
        connection.error(TLS_ACTIVE)
    elif connection.endpoint.tls is None:
        connection.reply(NO_TLS)
    elif connection.stream.waiting:
        # An attacker on the way may have put it there, to make it pass for the client's own words
        # once those are encrypted.
        connection.finish(TLS_PIPELINED, linger=True)
    else:
        connection.reply(TLS_READY)
        connection.start_tls(connection.forget)


def quit_(connection: Connection, argument: str) -> None:
    """QUIT: RFC 5321 section 4.1.1.10."""
    if argument.strip():
        connection.error(NO_ARGUMENT)
    else:
        connection.finish(GOODBYE)


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
"""RFC 2033 section 4.1: LHLO replaces HELO and EHLO."""


def untrusted_proxy(connection: Connection, _argument: str) -> None:
    """A line of UNTOLD: a PROXY header from a peer that is not a trusted proxy."""
    connection.endpoint.refusals.untrusted_proxy(connection.session)
    connection.error(BAD_COMMAND)


def verbs_of(options: SmtpOptions) -> Mapping[str, Verb]:
    """The commands of a listener, by name; those that its options disable are included."""
    table = dict(LMTP_VERBS if options.lmtp else SMTP_VERBS)
    table |= dict.fromkeys(UNTOLD, untrusted_proxy)
    if options.use_xclient:
        table["XCLIENT"] = xclient
    if options.use_xforward:
        table["XFORWARD"] = xforward
    return table
