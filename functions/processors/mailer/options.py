"""Options of the `mailer` output, also called `nodemailer`: forward to an SMTP server, signed
(docs/outputs/mailer.md)."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from email.utils import formataddr
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from functions.options.secrets import Secret
from functions.options.types import CAMEL, Breaking, FieldName, FieldValue, OptionsModel, check_field_value
from functions.processors.base import OutputOptions
from functions.processors.mailer.transport_options import (
    SUBMISSION,
    SUBMISSIONS,
    Transport,
    transport_of_url,
)

_DOMAIN: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_-]+)*", re.IGNORECASE
)
_SMTP: Final = 25
_SELECTOR: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?", re.IGNORECASE)


def check_domain(text: str) -> str:
    """A domain in lower case. Raises ValueError for a text that is not a domain in ASCII form."""
    if not _DOMAIN.fullmatch(text):
        raise ValueError(f"{text!r} is not a domain (give its ASCII form)")
    return text.lower()


def check_selector(text: str) -> str:
    """A selector, unchanged. Raises ValueError for one that cannot stand in the DNS."""
    if not _SELECTOR.fullmatch(text):
        raise ValueError(f"{text!r} is not a selector (RFC 6376 section 3.1)")
    return text


Domain = Annotated[str, AfterValidator(check_domain)]
Selector = Annotated[str, AfterValidator(check_selector)]


class DomainKey(OptionsModel):
    """A DKIM key; its name in `dkims` is the domain."""

    domain_name: Domain | None = None
    """The signing domain (`d=`). Default: the name in `dkims`."""

    key_selector: Selector
    """The selector (`s=`)."""

    private_key: Secret
    """The private key, PEM: RSA or Ed25519."""


class SigningKey(DomainKey):
    """A DKIM key, with the domain it signs for."""

    domain_name: Domain
    """The signing domain (`d=`)."""


def _address(value: Any) -> Any:
    """An address of the reference's kinds as text: `a@b`, `Name <a@b>` or `{name, address}`."""
    if isinstance(value, Mapping) and set(value) <= {"name", "address"} and "address" in value:
        return formataddr((str(value.get("name") or ""), str(value["address"])))
    return value


def _addresses(value: Any) -> Any:
    return tuple(map(_address, value if isinstance(value, list | tuple) else [value]))


def _has_address(text: str) -> str:
    if "@" not in check_field_value(text):
        raise ValueError(f"{text!r} is not a mail address")
    return text


Address = Annotated[str, AfterValidator(_has_address)]
OneAddress = Annotated[Address, BeforeValidator(_address, json_schema_input_type=str | dict[str, str])]
Addresses = Annotated[
    tuple[Address, ...],
    BeforeValidator(_addresses, json_schema_input_type=str | dict[str, str] | list[str | dict[str, str]]),
]


def _fields(value: Any) -> Any:
    """Header fields of the reference's two kinds, `{name: value}` or `[{key, value}]`."""
    if isinstance(value, list | tuple) and all(
        isinstance(item, Mapping) and set(item) == {"key", "value"} for item in value
    ):
        return {item["key"]: item["value"] for item in value}
    return value


class Override(OptionsModel):
    """Changes to the mail before forwarding."""

    from_: OneAddress | None = Field(default=None, alias="from")
    """Replaces the field and the reverse-path."""

    to: Addresses | None = None
    """Replaces the field; with `cc` and `bcc` the only recipients."""

    cc: Addresses | None = None
    """Replaces the field."""

    bcc: Addresses | None = None
    """Recipients in no field."""

    subject: FieldValue | None = None
    """Replaces the subject."""

    reply_to: Addresses | None = None
    """Replaces the field."""

    headers: Annotated[
        dict[FieldName, FieldValue],
        BeforeValidator(_fields, json_schema_input_type=dict[str, str] | list[dict[str, str]]),
    ] = Field(default_factory=dict)
    """Fields to set."""

    @model_validator(mode="before")
    @classmethod
    def _header_only(cls, value: Any) -> Any:
        body = sorted({"text", "html", "attachments"} & set(value)) if isinstance(value, Mapping) else ()
        if body:
            raise ValueError(f"{body[0]} cannot be overridden: the mail's body is forwarded unchanged")
        return value


def _transport(value: Any) -> Any:
    return transport_of_url(value) if isinstance(value, str) else value


class MailerOutputOptions(OutputOptions):
    """Forward the mail with its envelope to an SMTP server, unchanged except by `override`, and sign it
    with DKIM if there is a key for its author's domain."""

    model_config = CAMEL

    type: Literal["mailer", "nodemailer"]
    """The output's type; both names mean the same."""

    nodemailer: Annotated[Transport, BeforeValidator(_transport, json_schema_input_type=Transport | str)] = (
        Transport()
    )
    """The server; text is its URL."""

    override: Override = Override()
    """Changes before forwarding."""

    dkim: SigningKey | None = None
    """The key that signs."""

    dkims: dict[Domain, DomainKey] = Field(default_factory=dict)
    """Keys by domain."""

    loopingz_differences = (
        Breaking(
            "the mailer forwards the mail unchanged, to the envelope's recipients instead of those in its "
            "header"
        ),
    )

    @property
    def sends_on(self) -> str:
        return "the mailer"

    @property
    def smtp_port(self) -> int:
        return self.nodemailer.effective_port

    @model_validator(mode="before")
    @classmethod
    def _signed_in_transport(cls, value: Any) -> Any:
        """Nodemailer's own place for the key is the transport."""
        transport = value.get("nodemailer") if isinstance(value, Mapping) else None
        if not isinstance(transport, Mapping) or "dkim" not in transport:
            return value
        if value.get("dkim") is not None:
            raise ValueError("dkim stands in nodemailer too: give one of them")
        rest = {name: item for name, item in transport.items() if name != "dkim"}
        return {**value, "nodemailer": rest, "dkim": transport["dkim"]}

    def advice(self, ports: Container[int]) -> Iterable[tuple[str, str]]:
        server = self.nodemailer
        port = server.effective_port
        if server.port == SUBMISSIONS and not server.secure:
            yield "nodemailer.port", f'port {port} is for TLS from the first byte (add "secure": true)'
        if server.port in (SUBMISSION, _SMTP) and server.secure:
            text = f"port {port} begins in clear text, and secure fails there"
            yield "nodemailer.port", f'{text} (replace secure by "requireTLS": true, or use 465)'
        if not {"host", "service"} & server.model_fields_set:
            yield "nodemailer.host", "there is none, so localhost is asked (name the host)"
        elif server.host in ("localhost", "127.0.0.1", "::1") and port in ports:
            yield "nodemailer", f"{server.host}:{port} is this relay, so mail goes round (name another host)"
        yield from ((f"nodemailer.{key}", text) for key, text in server.advice())

    @property
    def effect(self) -> str:
        server = self.nodemailer
        signed = ", signed with DKIM," if self.dkim or self.dkims else ""
        return f"sends it on{signed} through {server.host}:{server.effective_port}"

    @property
    def sets_sender(self) -> str:
        if self.override.from_ is not None:
            return "override.from"
        senders = {"from", "sender", "resent-from", "resent-sender"}
        found = next((name for name in self.override.headers if name.lower() in senders), "")
        return found and f"override.headers.{found}"

    def identity(self) -> str:
        """The name, else the next server, the user there, and the recipients that `override` sets."""
        if self.name is not None:
            return self.name
        server = self.nodemailer
        user = f"{server.auth.user}@" if server.auth else ""
        over = self.override
        to = ",".join(address for each in (over.to, over.cc, over.bcc) for address in each or ())
        return f"mailer {user}{server.host}:{server.effective_port}" + (f" to {to}" if to else "")
