"""How the `mailer` output reaches the next SMTP server: Nodemailer's transport options."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from functions.options.secrets import Secret
from functions.options.types import Milliseconds, OptionsModel, Port
from functions.processors.mailer.oauth.options import TransportAuth, is_loopback

_LOCALHOST: Final = "localhost"


def _host(text: str) -> str:
    bare = text.strip("[]")
    name, colon, port = bare.partition(":")
    if "/" in bare or " " in bare:
        meant = re.sub(r"^[a-z]+://|/.*$", "", bare.strip()).partition(":")[0]
        raise ValueError(f"{text!r} is not a host name or address (write {meant!r})")
    if colon and port.isdigit() and text == bare:
        raise ValueError(f'{text!r} is not a host name or address (write {name!r}, and "port": {port})')
    return text


AuthMethod = Literal["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2", "OAUTHBEARER"]

_OF_TOKENS: Final = frozenset({"XOAUTH2", "OAUTHBEARER"})


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


class TransportTls(OptionsModel):
    """TLS towards the next server."""

    reject_unauthorized: bool = True
    """Require a certificate that is valid for the server's name."""

    servername: str | None = None
    """The name for SNI, which its certificate must carry. Default: `host`."""

    ca: Secret | tuple[Secret, ...] | None = None
    """Certificates (PEM) to trust instead of the system's."""

    cert: Secret | None = None
    """The relay's client certificate (PEM)."""

    key: Secret | None = None
    """The client certificate's key (PEM)."""

    passphrase: Secret | None = None
    """The passphrase of the key."""

    min_version: Literal["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"] = "TLSv1.2"
    """The oldest TLS version used."""

    max_version: Literal["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"] | None = None
    """The newest TLS version used."""

    ciphers: str | None = None
    """OpenSSL's cipher list for TLS 1.2 and older."""


class Transport(OptionsModel):
    """The next SMTP server."""

    service: str | None = None
    """A well-known server: `gmail`, `outlook365`, `SES-eu-west-1` …"""

    host: Annotated[str, AfterValidator(_host)] = Field(default=_LOCALHOST, min_length=1)
    """Its name or address."""

    port: Port = 0
    """Its port; 0 means 465 with `secure`, else 587."""

    secure: bool = False
    """TLS from the first byte; else STARTTLS if offered."""

    require_tls: bool = Field(default=False, alias="requireTLS")
    """Fail rather than send in clear text."""

    ignore_tls: bool = Field(default=False, alias="ignoreTLS")
    """Stay in clear text even if STARTTLS is offered."""

    name: str | None = None
    """The host name for EHLO. Default: this machine's."""

    auth: TransportAuth | None = None
    """The login."""

    auth_method: Annotated[AuthMethod, BeforeValidator(_upper)] | None = None
    """The only mechanism to log in by. Default: those that the server offers, each once."""

    tls: TransportTls = TransportTls()
    """TLS options."""

    pool: bool = False
    """Keep connections open between mails."""

    max_connections: int = Field(default=5, ge=1, le=1000)
    """Most connections at a time, with `pool`."""

    max_messages: int = Field(default=100, ge=1)
    """Most mails over one connection, with `pool`."""

    rate_limit: int | None = Field(default=None, ge=1, le=10_000)
    """Most mails in `rateDelta`, for each process."""

    rate_delta: Milliseconds = Field(default=1_000, ge=1)
    """The time that `rateLimit` is for."""

    lmtp: bool = False
    """Speak LMTP (RFC 2033): one reply for each recipient."""

    connection_timeout: Milliseconds = Field(default=120_000, ge=1)
    """Time to wait for the connection."""

    greeting_timeout: Milliseconds = Field(default=30_000, ge=1)
    """Time to wait for the greeting."""

    socket_timeout: Milliseconds = Field(default=600_000, ge=1)
    """Time of silence; RFC 5321 asks for ten minutes after a mail."""

    dns_timeout: Milliseconds = Field(default=30_000, ge=1)
    """Time to wait for the name's addresses."""

    @model_validator(mode="before")
    @classmethod
    def _known_service(cls, value: Any) -> Any:
        name = value.get("service") if isinstance(value, Mapping) else None
        if not isinstance(name, str) or not name:
            return value
        found = service(name)
        if found is None:
            raise ValueError(f"service: {name!r} is not one of {', '.join(NAMES)}; give host and port")
        return {"host": found.host, "port": found.port, "secure": found.secure, **value}

    @model_validator(mode="after")
    def _not_both(self) -> Transport:
        if self.require_tls and self.ignore_tls:
            raise ValueError("requireTLS and ignoreTLS exclude each other (give one of them)")
        if self.auth_method is not None and self.auth is not None:
            wanted = "a password" if self.auth.oauth else "access tokens"
            if self.auth.oauth != (self.auth_method in _OF_TOKENS):
                raise ValueError(f"authMethod {self.auth_method} is for {wanted} (remove it)")
        return self

    @property
    def effective_port(self) -> int:
        """The port to connect to."""
        return self.port or (465 if self.secure else 587)

    def advice(self) -> Iterable[tuple[str, str]]:
        """Keys that are probably a mistake, and texts with the cure."""
        if self.lmtp and self.effective_port in (25, SUBMISSION, SUBMISSIONS):
            yield "port", f"{self.effective_port} is for SMTP (give the port of the LMTP server, often 24)"
        if self.auth is None:
            return
        yield from ((f"auth.{key}", text) for key, text in self.auth.advice())
        clear = not self.secure and not self.require_tls and not is_loopback(self.host)
        if self.auth.oauth and clear:
            yield "requireTLS", 'an access token may go out in clear text (add "requireTLS": true)'


def transport_of_url(url: str) -> dict[str, Any]:
    """The options that `smtp[s]://[USER:PASSWORD@]HOST[:PORT][/?OPTION=VALUE…]` stands for. Raises
    ValueError, never quoting the password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError("is not a URL smtp://USER:PASSWORD@HOST:PORT") from error
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname or parts.path.strip("/"):
        raise ValueError("is not a URL smtp://USER:PASSWORD@HOST:PORT or smtps://…")
    found: dict[str, Any] = {"host": parts.hostname, "secure": parts.scheme == "smtps"}
    if port is not None:
        found["port"] = port
    if parts.username is not None:
        found["auth"] = {"user": unquote(parts.username), "pass": unquote(parts.password or "")}
    for name, value in parse_qsl(parts.query):
        holder = found
        *path, last = name.split(".")
        for step in path:
            holder = holder.setdefault(step, {})
        holder[last] = {"true": True, "false": False}.get(value, value)
    return found


class Service(NamedTuple):
    """A mail service's address for submissions, named by Nodemailer's `service` option; `secure` is
    implicit TLS (RFC 8314)."""

    host: str
    port: int
    secure: bool


SUBMISSION: Final = 587  # RFC 6409
SUBMISSIONS: Final = 465  # RFC 8314 section 7.3

_SERVICES: Final = {
    "brevo": Service("smtp-relay.brevo.com", SUBMISSION, False),
    "ethereal": Service("smtp.ethereal.email", SUBMISSION, False),
    "fastmail": Service("smtp.fastmail.com", SUBMISSIONS, True),
    "gmail": Service("smtp.gmail.com", SUBMISSIONS, True),
    "hotmail": Service("smtp-mail.outlook.com", SUBMISSION, False),
    "icloud": Service("smtp.mail.me.com", SUBMISSION, False),
    "maildev": Service("127.0.0.1", 1025, False),
    "mailgun": Service("smtp.mailgun.org", SUBMISSIONS, True),
    "mailjet": Service("in-v3.mailjet.com", SUBMISSION, False),
    "mandrill": Service("smtp.mandrillapp.com", SUBMISSION, False),
    "outlook365": Service("smtp.office365.com", SUBMISSION, False),
    "postmark": Service("smtp.postmarkapp.com", 2525, False),
    "sendgrid": Service("smtp.sendgrid.net", SUBMISSION, False),
    "sendinblue": Service("smtp-relay.brevo.com", SUBMISSION, False),
    "sparkpost": Service("smtp.sparkpostmail.com", SUBMISSION, False),
    "yahoo": Service("smtp.mail.yahoo.com", SUBMISSIONS, True),
    "zoho": Service("smtp.zoho.com", SUBMISSIONS, True),
}
_SES: Final = re.compile(r"ses-([a-z]{2}(?:-[a-z]+)+-\d)")

NAMES: Final = (*_SERVICES, "SES-REGION")


def service(name: str) -> Service | None:
    """The service of a name, in any case; `SES-eu-west-1` is SES's SMTP endpoint of that region."""
    folded = name.lower()
    if found := _SES.fullmatch(folded):
        return Service(f"email-smtp.{found[1]}.amazonaws.com", SUBMISSIONS, True)
    return _SERVICES.get(folded.replace(" ", ""))
