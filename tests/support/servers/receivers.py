"""aiosmtpd as the server that mails are forwarded to."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.support.net import HOST, free_port


@dataclass
class Received:
    """One mail as aiosmtpd received it."""

    content: bytes
    reverse_path: str
    recipients: list[str]
    mail_options: list[str]
    encrypted: bool
    user: str | None


@dataclass
class Receiver:
    """`received` are the mails; `user` with `secret` may log in."""

    port: int = 0
    received: list[Received] = field(default_factory=list)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        user = session.auth_data.login.decode() if session.authenticated else None
        self.received.append(
            Received(
                envelope.content,
                envelope.mail_from or "",
                list(envelope.rcpt_tos),
                list(envelope.mail_options),
                server.transport.get_extra_info("ssl_object") is not None,
                user,
            )
        )
        return "250 2.0.0 Ok"


@contextmanager
def receiver(
    *, starttls: ssl.SSLContext | None = None, implicit: ssl.SSLContext | None = None, login: bool = False
) -> Iterator[Receiver]:
    """Serve until the block ends; with `login` it accepts only that user."""
    made = Receiver(free_port())

    def check(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        good = (data.login, data.password) == (b"user", b"secret")
        return AuthResult(success=good, handled=good, auth_data=data)

    controller = Controller(
        made,
        hostname=HOST,
        port=made.port,
        ssl_context=implicit,
        tls_context=starttls,
        require_starttls=starttls is not None,
        auth_required=login,
        # aiosmtpd does not count implicit TLS as TLS.
        auth_require_tls=login and starttls is not None,
        authenticator=check,
        enable_SMTPUTF8=True,
        data_size_limit=50_000_000,
    )
    controller.start()
    try:
        yield made
    finally:
        controller.stop()
