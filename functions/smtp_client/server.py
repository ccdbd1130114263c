"""The next SMTP server, and its options."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

StartTls = Literal["always", "offered", "never"]


class Tokens(Protocol):
    """The access tokens of one login. `limit` returns the seconds that the run has left."""

    def token(self, limit: Callable[[], float]) -> str:
        """A valid token. Raises Unreachable."""

    def refused(self, token: str) -> None:
        """The server refused this token: it is not used again."""


@dataclass(frozen=True, slots=True)
class Login:
    """The login at the server. `secret` is a password, or with `token` an OAuth 2 access token, which
    `tokens` renew. `method` is the only SASL mechanism to use, None for all that the server offers."""

    user: str
    secret: str = field(repr=False, default="")
    token: bool = False
    method: str | None = None
    tokens: Tokens | None = field(repr=False, default=None)

    def now(self, limit: Callable[[], float]) -> Login:
        """The login with a valid token, if it needs one. Raises Unreachable."""
        return self if self.tokens is None else replace(self, secret=self.tokens.token(limit))


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Address and options of the server; time-outs in seconds. `hello` is the name for EHLO, None for
    the machine's. `lmtp` is LMTP (RFC 2033), with a reply for each recipient after a mail.

    `implicit_tls` is TLS from the first byte (RFC 8314), else `starttls` says when to upgrade.
    """

    host: str
    port: int
    context: ssl.SSLContext
    implicit_tls: bool = False
    starttls: StartTls = "offered"
    servername: str | None = None
    login: Login | None = None
    lmtp: bool = False
    hello: str | None = None
    dns_timeout: float = 30.0
    connect_timeout: float = 120.0
    greeting_timeout: float = 30.0
    socket_timeout: float = 600.0

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"
