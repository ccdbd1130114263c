"""The objects that hand a mail to a server, put together for tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from functions.ids import uuid7
from functions.message.envelope import Client, Envelope, FlowNotes, Recipient
from functions.message.mail import BytesContent, Mail
from functions.processors.base import Job
from functions.smtp_client.pool import Pool
from functions.smtp_client.server import SmtpServer
from functions.smtp_client.tls import Policy, client_context
from functions.smtp_client.transaction import MailToSend, Rcpt, TransactionResult, transact
from tests.support.net import HOST

MAIL = (
    b"From: Ann <ann@client.example>\r\nTo: bob@server.example\r\nSubject: x\r\n\r\n"
    b".\r\n..dots\r\n\r\nend\r\n"
)


def endless() -> float:
    return float("inf")


def server(port: int, *, policy: Policy | None = None, **options: Any) -> SmtpServer:
    """A server on loopback, with short time-outs."""
    times = {"connect_timeout": 5.0, "greeting_timeout": 5.0, "socket_timeout": 5.0} | options
    return SmtpServer(HOST, port, _context(policy or Policy()), **times)


_context = cache(client_context)  # reading the system's authorities takes a while


def pool(port: int, *, keep: bool = False, most: int = 2, messages: int = 100, **options: Any) -> Pool:
    """Sessions with such a server."""
    return Pool(server(port, **options), keep=keep, most=most, messages=messages)


def message(content: bytes = MAIL, reverse_path: str = "ann@client.example", **facts: Any) -> MailToSend:
    """A mail to send, in pieces of 100 bytes."""

    def chunks() -> Any:
        return iter([content[at : at + 100] for at in range(0, len(content), 100)])

    return MailToSend(reverse_path, chunks, len(content), **facts)


def send(sessions: Pool, *recipients: str | Rcpt, mail: MailToSend | None = None) -> TransactionResult:
    """One transaction over a leased session."""
    to = [Rcpt(each) if isinstance(each, str) else each for each in recipients or ("bob@server.example",)]
    with sessions.lease(endless) as lease:
        return transact(lease.connection(), mail or message(), to)


def make_mail(
    content: bytes = MAIL,
    *recipients: str,
    reverse_path: str = "ann@client.example",
    parameters: tuple[str, ...] = (),
    dsn: tuple[str, ...] = (),
    headers: tuple[tuple[str, str], ...] = (),
) -> Mail:
    """An accepted mail of flow `f`."""
    envelope = Envelope(
        id=uuid7(),
        session="s",
        received=1_767_323_045_678,
        reverse_path=reverse_path,
        parameters=parameters,
        recipients=tuple(
            Recipient(address=each, flows=("f",), parameters=dsn)
            for each in recipients or ("bob@server.example",)
        ),
        client=Client(ip="192.0.2.1"),
        notes={"f": FlowNotes(headers=headers)} if headers else {},
        size=len(content),
        sha256="",
    )
    return Mail(envelope, BytesContent(content))


class Remembering:
    """Receipts in memory, as `processors.base.Once` promises; `parts` are those that were run."""

    def __init__(self) -> None:
        self.results: dict[str, str | None] = {}
        self.parts: list[str] = []

    def __call__(self, part: str, effect: Callable[[], str | None]) -> str | None:
        if part not in self.results:
            self.parts.append(part)
            self.results[part] = effect()
        return self.results[part]


def job(mail: Mail, once: Any = None, seconds_left: Callable[[], float] = endless) -> Job:
    """The work of flow `f`."""
    return Job(mail, "f", mail.envelope.recipients_of("f"), once or Remembering(), seconds_left)
