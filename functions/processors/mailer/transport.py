"""From Nodemailer's transport options to a server to hand mails to."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from functions.message.domains import ascii_form
from functions.options.secrets import Secret, resolved
from functions.processors.mailer.transport_options import Transport, TransportTls
from functions.smtp_client.server import Login, SmtpServer
from functions.smtp_client.tls import Policy, client_context

_NAME: Final = re.compile(r"[!-~]{1,255}")  # RFC 5321 section 4.5.3.1.2, and no blanks

Resolve = Callable[[str], str]


def server_of(transport: Transport, resolve: Resolve, folder: Path = Path()) -> SmtpServer:
    """The server, its secrets resolved; relative paths start in `folder`. Raises ValueError that names the
    option, and ConfigError for a missing secret."""
    for key, value in (("name", transport.name), ("tls.servername", transport.tls.servername)):
        if value is not None and not _NAME.fullmatch(value):
            raise ValueError(f"{key}: {value!r} is not a host name")
    return SmtpServer(
        host=_host(transport.host),
        port=transport.effective_port,
        context=client_context(_policy(transport.tls, resolve)),
        implicit_tls=transport.secure,
        starttls="never" if transport.ignore_tls else "always" if transport.require_tls else "offered",
        servername=transport.tls.servername,
        login=_login(transport, resolve, folder),
        lmtp=transport.lmtp,
        hello=transport.name,
        dns_timeout=transport.dns_timeout / 1000,
        connect_timeout=transport.connection_timeout / 1000,
        greeting_timeout=transport.greeting_timeout / 1000,
        socket_timeout=transport.socket_timeout / 1000,
    )


def _host(host: str) -> str:
    """The host in the form for DNS queries. The system's own functions apply IDNA 2003 to other names,
    which leads to other hosts. Raises ValueError."""
    found = host if host.isascii() else ascii_form(host)
    if found is None:
        raise ValueError(f"host: {host!r} is not a host name")
    return found


def _login(transport: Transport, resolve: Resolve, folder: Path) -> Login | None:
    auth = transport.auth
    if auth is None:
        return None
    tokens = None
    if auth.effective_grant is not None:
        # A start pays for it only if it is used.
        from functions.processors.mailer.oauth.login import tokens_of

        tokens = tokens_of(auth, resolve, folder)
    secret = auth.access_token or auth.password
    text = "" if secret is None or tokens is not None else secret.resolve(resolve)
    if "\0" in auth.user + text:
        raise ValueError("auth: neither the user nor the password may hold a NUL (RFC 4616)")
    if auth.oauth and "\x01" in auth.user + text:
        raise ValueError("auth: neither the user nor the token may hold a control character (RFC 7628)")
    return Login(auth.user, text, auth.oauth, transport.auth_method, tokens)


def _policy(tls: TransportTls, resolve: Resolve) -> Policy:
    ca = (tls.ca,) if isinstance(tls.ca, Secret) else tls.ca or ()
    return Policy(
        verify=tls.reject_unauthorized,
        ca=tuple(each.resolve(resolve) for each in ca),
        cert=resolved(tls.cert, resolve),
        key=resolved(tls.key, resolve),
        passphrase=resolved(tls.passphrase, resolve),
        min_version=tls.min_version,
        max_version=tls.max_version,
        ciphers=tls.ciphers,
    )
