"""One mail to some recipients over a session, with one result for each of them (RFC 5321 section 3.3)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from functions.errors import Temporary
from functions.smtp_client.connection import Connection
from functions.smtp_client.lines import stuffed
from functions.smtp_client.reply import Lost, Said, ServerReply

# A mailbox that is unambiguous in a command: no control characters, and no blanks or angle brackets
# outside quotes (RFC 5321 section 4.1.2; RFC 6531 for the rest).
_PLAIN: Final = r'[^\s"<>@\\\x00-\x1f\x7f-\x9f]+'
_QUOTED: Final = r'"(?:[^"\\\x00-\x1f\x7f-\x9f]|\\[ -~])*"'
_MAILBOX: Final = re.compile(f"(?:{_QUOTED}|{_PLAIN})(?:@{_PLAIN})?")
_PARAMETER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*(?:=[^\s=\x00-\x20\x7f-\x9f]+)?")

# RFC 4954 section 6, RFC 3207 section 4: replies to MAIL that concern the session, not the mail.
_SESSION: Final = frozenset({530, 534, 535, 538})


class Rcpt(NamedTuple):
    """One recipient, without angle brackets, and the client's parameters for it (DSN)."""

    address: str
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MailToSend:
    """The mail to send. `reverse_path` has no angle brackets, "" for the null one.

    `chunks` gives the mail once for each transaction, with lines from `lines.crlf_lines`; `size` counts
    its bytes. `eight_bit` says that it has bytes above 127 or was declared to. `utf8` says that it was
    declared internationalized (RFC 6531), `utf8_header` that its header requires this; the transaction
    checks the addresses. `parameters` are those of MAIL to pass on if the server knows them (RET,
    ENVID).
    """

    reverse_path: str
    chunks: Callable[[], Iterator[bytes]]
    size: int
    eight_bit: bool = False
    utf8: bool = False
    utf8_header: bool = False
    parameters: tuple[str, ...] = ()


@dataclass(slots=True)
class TransactionResult:
    """The result of a transaction for each recipient. `answer` is the server's reply to the mail.

    `crowded` says that some recipients were put off only because there were too many at once, `in_doubt`
    that some of the deferred ones may have the mail.
    """

    accepted: list[str] = field(default_factory=list)
    refused: dict[str, Said] = field(default_factory=dict)
    deferred: dict[str, Said] = field(default_factory=dict)
    answer: str = ""
    crowded: bool = False
    in_doubt: bool = False


class Stale(Exception):
    """An idle session was closed before the first command; another session may work."""


def transact(connection: Connection, message: MailToSend, recipients: Iterable[Rcpt]) -> TransactionResult:
    """Send a mail. Raises Temporary when the connection is lost (`in_doubt` when that was after
    the whole mail and before the reply), Stale, and what reading the mail raises."""
    tally = TransactionResult()
    wanted = _sendable(connection, message, recipients, tally)
    if not wanted:
        return tally
    connection.used += 1
    try:
        _run(connection, message, wanted, tally)
    except Lost as error:
        connection.broken = True
        raise Temporary(f"{connection.server}: {error}, before it had the mail", enhanced="4.4.2") from error
    except BaseException:
        connection.broken = True
        raise
    return tally


def _sendable(
    connection: Connection, message: MailToSend, recipients: Iterable[Rcpt], tally: TransactionResult
) -> list[Rcpt]:
    """The recipients that a command to this server can name; the others are refused without a
    command."""
    wanted = list(recipients)
    problem = _problem(connection, message)
    for recipient in wanted:
        address = recipient.address
        if problem is not None:
            tally.refused[address] = problem
        elif not _MAILBOX.fullmatch(address):
            tally.refused[address] = Said("5.1.3", "the address cannot be written in an SMTP command")
        elif not address.isascii() and not connection.offers("SMTPUTF8"):
            tally.refused[address] = _no_utf8(connection, "the address")
    return [each for each in wanted if each.address not in tally.refused]


def _problem(connection: Connection, message: MailToSend) -> Said | None:
    """Why the server cannot take this mail for any recipient."""
    sender = message.reverse_path
    if sender and not _MAILBOX.fullmatch(sender):
        return Said("5.1.7", "the reverse-path cannot be written in an SMTP command")
    if not connection.offers("SMTPUTF8"):
        if not sender.isascii():
            return _no_utf8(connection, "the reverse-path")
        if message.utf8_header:
            return _no_utf8(connection, "the header")
    most = connection.extensions.get("SIZE", "")
    if most.isdecimal() and 0 < int(most) < message.size:
        # RFC 1870 section 6.1: the client knows the reply already.
        words = f"{connection.server} takes mails of {most} bytes at most, this one has {message.size}"
        return Said("5.3.4", words)
    return None


def _no_utf8(connection: Connection, what: str) -> Said:
    return Said("5.6.7", f"{connection.server} offers no SMTPUTF8, which {what} needs")


def _run(
    connection: Connection, message: MailToSend, recipients: list[Rcpt], tally: TransactionResult
) -> None:
    wire = connection.wire
    lines = [_mail(connection, message, recipients), *(_rcpt(connection, each) for each in recipients)]
    pipelined = connection.offers("PIPELINING")
    try:
        wire.commands(lines if pipelined else lines[:1])
        reply = wire.reply()
    except Lost as error:
        if connection.used > 1:
            raise Stale(str(error)) from error
        raise
    if not reply.positive:
        if not reply.negative:
            raise Lost(f"an unexpected reply to MAIL: {reply}")
        refused = reply.permanent and reply.code not in _SESSION
        _all(recipients, tally, _said(connection, "MAIL", reply), refused=refused)
        _leave(connection, reply, unread=len(recipients) if pipelined else 0)
        return
    accepted = _recipients(connection, recipients, lines[1:], tally, pipelined=pipelined)
    if not accepted:
        _leave(connection)
        return
    if connection.broken:
        return
    reply = wire.command("DATA")
    if reply.code != 354:
        if not reply.negative:
            raise Lost(f"an unexpected reply to DATA: {reply}")
        _all(accepted, tally, _said(connection, "DATA", reply), refused=reply.permanent)
        _leave(connection, reply)
        return
    early = _content(connection, message)
    if early is not None:
        _all(accepted, tally, _said(connection, "the mail", early), refused=early.permanent)
    elif connection.server.lmtp:
        _finish_each(connection, accepted, tally)
    else:
        _finish(connection, accepted, tally)


def _recipients(
    connection: Connection,
    recipients: list[Rcpt],
    lines: list[str],
    tally: TransactionResult,
    *,
    pipelined: bool,
) -> list[Rcpt]:
    """Send RCPT for the recipients; returns those that the server accepts."""
    accepted: list[Rcpt] = []
    closing: Said | None = None
    for recipient, line in zip(recipients, lines, strict=True):
        if closing is not None:
            tally.deferred[recipient.address] = closing
            continue
        if not pipelined:
            connection.wire.commands([line])
        reply = connection.wire.reply()
        said = _said(connection, "RCPT", reply)
        if reply.positive:
            accepted.append(recipient)
        elif reply.permanent and reply.code != 552:
            tally.refused[recipient.address] = said
        elif reply.negative:
            # RFC 5321 section 4.5.3.1.10: 552 here means too many recipients, as 452 does.
            tally.deferred[recipient.address] = said
            tally.crowded = tally.crowded or (bool(accepted) and reply.code in (452, 552))
            if reply.code == 421:
                closing = said
        else:
            raise Lost(f"an unexpected reply to RCPT: {reply}")
    if closing is not None:
        connection.broken = True
        _all(accepted, tally, closing, refused=False)
    return accepted


def _content(connection: Connection, message: MailToSend) -> ServerReply | None:
    """Send the mail and its final dot; returns a reply that came before the dot, which refuses the mail.
    After an error before the dot is fully sent the server does not have the mail, because an incomplete
    dot ends nothing."""
    wire = connection.wire
    try:
        for piece in stuffed(message.chunks()):
            wire.send(piece)
        early = wire.early_reply()
    except Lost as error:
        # A server may send its reason before it closes.
        try:
            early = wire.early_reply()
        except Lost:
            early = None
        if early is None:
            raise error
    except OSError as error:
        raise Temporary(f"the mail cannot be read: {error.strerror or error}") from error
    if early is not None:
        connection.broken = True
        if not early.negative:
            raise Lost(f"an unexpected reply within the mail: {early}")
        return early
    wire.tell_mail(message.size)
    wire.send(b".\r\n")
    return None


def _finish(connection: Connection, accepted: list[Rcpt], tally: TransactionResult) -> None:
    """Read the reply to the mail. Raises Temporary, in doubt, if there is none."""
    try:
        reply = connection.wire.reply()
        if not (reply.positive or reply.negative):
            raise Lost(f"an unexpected reply to the mail: {reply}")
    except Lost as error:
        connection.broken = True
        words = f"{connection.server}: {error}, after it had the mail: it may have taken it"
        raise Temporary(words, enhanced="4.4.2", in_doubt=True) from error
    if reply.positive:
        tally.accepted += [each.address for each in accepted]
        tally.answer = str(reply)
    else:
        _all(accepted, tally, _said(connection, "the mail", reply), refused=reply.permanent)
    if reply.code == 421:
        connection.broken = True


def _finish_each(connection: Connection, accepted: list[Rcpt], tally: TransactionResult) -> None:
    """Read the replies to the mail, one for each recipient in their order (RFC 2033 section 4.2). When the
    session is lost between them, the recipients without a reply are in doubt, and the others are not asked
    for again. Raises Temporary, in doubt, if there is no reply at all."""
    for at, recipient in enumerate(accepted):
        try:
            _finish(connection, [recipient], tally)
        except Temporary as fault:
            if at == 0:
                raise
            _all(accepted[at:], tally, Said(fault.enhanced, fault.reason), refused=False)
            tally.in_doubt = True
            return


def _leave(connection: Connection, reply: ServerReply | None = None, *, unread: int = 0) -> None:
    """Reset the session for another MAIL; an error here changes no result."""
    if reply is not None and reply.code == 421:
        connection.broken = True
        return
    try:
        for _ in range(unread):
            connection.wire.reply()
    except Lost:
        connection.broken = True
    connection.reset()


def _all(recipients: Iterable[Rcpt], tally: TransactionResult, said: Said, *, refused: bool) -> None:
    verdicts = tally.refused if refused else tally.deferred
    for recipient in recipients:
        verdicts[recipient.address] = said


def _said(connection: Connection, after: str, reply: ServerReply) -> Said:
    enhanced = reply.enhanced
    if (after == "MAIL" and reply.code in _SESSION) or (after == "RCPT" and reply.code == 552):
        enhanced = f"4{enhanced[1:]}"
    return Said(enhanced, f"{connection.server} said to {after}: {reply}")


def _mail(connection: Connection, message: MailToSend, recipients: list[Rcpt]) -> str:
    line = [f"MAIL FROM:<{message.reverse_path}>"]
    if connection.offers("SIZE"):
        line.append(f"SIZE={message.size}")
    if message.eight_bit and connection.offers("8BITMIME"):
        line.append("BODY=8BITMIME")
    named = [message.reverse_path, *(each.address for each in recipients)]
    utf8 = message.utf8 or message.utf8_header or not all(name.isascii() for name in named)
    if utf8 and connection.offers("SMTPUTF8"):
        line.append("SMTPUTF8")
    if connection.offers("DSN"):
        line += _known(message.parameters, ("RET", "ENVID"))
    return " ".join(line)


def _rcpt(connection: Connection, recipient: Rcpt) -> str:
    line = [f"RCPT TO:<{recipient.address}>"]
    if connection.offers("DSN"):
        line += _known(recipient.parameters, ("NOTIFY", "ORCPT"))
    return " ".join(line)


def _known(parameters: Iterable[str], names: tuple[str, ...]) -> list[str]:
    """RFC 3461 section 4: the parameters of these names that are legal in a command."""
    return [
        each
        for each in parameters
        if each.partition("=")[0].upper() in names and each.isascii() and _PARAMETER.fullmatch(each)
    ]
