"""The next SMTP server, and its options."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Literal

StartTls = Literal["always", "offered", "never"]


@dataclass(frozen=True, slots=True)
class Login:
    """The login at the server. `secret` is a password, or with `token` an OAuth 2 access token."""

    user: str
    secret: str = field(repr=False)
    token: bool = False


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Address and options of the server; time-outs in seconds. `hello` is the name for EHLO, None for
    the machine's.

    `implicit_tls` is TLS from the first byte (RFC 8314), else `starttls` says when to upgrade.
    """

    host: str
    port: int
    context: ssl.SSLContext
    implicit_tls: bool = False
    starttls: StartTls = "offered"
    servername: str | None = None
    login: Login | None = None
    hello: str | None = None
    dns_timeout: float = 30.0
    connect_timeout: float = 120.0
    greeting_timeout: float = 30.0
    socket_timeout: float = 600.0

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"
