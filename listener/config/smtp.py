"""The SMTP options: `options` of the configuration file, and what a listener overlays on them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from functions.options.types import ByteCount, Milliseconds
from listener.config.peers import TrustedPeers
from listener.config.tls import Certificate, SniCertificate, TlsVersion
from listener.logs.options import LoggerOptions

AuthMethod = Literal["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"]

KIB: Final = 1024
MIB: Final = 1024 * KIB


def _upper(value: Any) -> Any:
    if isinstance(value, str):
        return value.upper()
    return tuple(map(_upper, value)) if isinstance(value, list | tuple) else value


def _one_line(text: str) -> str:
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise ValueError("cannot hold line breaks or control characters (write one line)")
    return text


Line = Annotated[str, Field(max_length=400), AfterValidator(_one_line)]
"""Text for a reply line (RFC 5321 section 4.5.3.1.5: 512 bytes)."""

_HOST: Final = re.compile(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")


def _host_name(text: str) -> str:
    if not _HOST.fullmatch(text) or len(text) > 255:
        raise ValueError(
            f"{text!r} is neither a host name (ASCII form) nor an address in brackets (write "
            "mail.example.com)"
        )
    return text


HostName = Annotated[str, AfterValidator(_host_name)]
"""A host name for EHLO (RFC 5321 section 4.1.3)."""


class SmtpOptions(Certificate):
    """Names and defaults are the reference's if it has them."""

    secure: bool = False
    """TLS from the first byte (port 465, RFC 8314) instead of STARTTLS. Without a certificate a self-signed
    one is made at start."""

    name: HostName | None = None
    """The server's host name in the greeting, in `Received:` and in Authentication-Results. Default:
    this machine's."""

    banner: Line | None = None
    """Text after the host name in the greeting."""

    size: ByteCount = Field(default=40 * MIB, ge=1)
    """Largest mail, enforced while receiving."""

    hide_size: bool = False
    """Do not announce `size`, but enforce it."""

    auth_methods: Annotated[
        tuple[AuthMethod, ...], BeforeValidator(_upper, json_schema_input_type=list[AuthMethod])
    ] = ("PLAIN", "LOGIN")
    """SASL mechanisms to offer: CRAM-MD5 only if every password is `plain:` (and none is checked
    elsewhere); XOAUTH2 tokens go to `http-auth`."""

    auth_optional: bool = False
    """Allow mail from unauthenticated clients."""

    allow_insecure_auth: bool = False
    """Offer AUTH in clear text."""

    disabled_commands: Annotated[tuple[str, ...], BeforeValidator(_upper)] = ()
    """Commands to answer with 502. Without AUTH none is required; without STARTTLS it is taken in clear
    text."""

    hide_starttls: bool = Field(default=False, alias="hideSTARTTLS")
    """Do not announce it; permits AUTH in clear text."""

    hide_pipelining: bool = Field(default=False, alias="hidePIPELINING")
    """Do not announce it."""

    hide_8bitmime: bool = Field(default=False, alias="hide8BITMIME")
    """Do not announce it."""

    hide_smtputf8: bool = Field(default=False, alias="hideSMTPUTF8")
    """Do not announce it."""

    hide_dsn: bool = Field(default=False, alias="hideDSN")
    """Do not announce it, whatever `dsn` says."""

    hide_enhanced_status_codes: bool = Field(default=False, alias="hideENHANCEDSTATUSCODES")
    """Do not announce it."""

    dsn: bool = False
    """Announce DSN and keep its parameters in the envelope."""

    disable_reverse_lookup: bool = False
    """Do not look up clients' names."""

    max_clients: int | None = Field(default=2_000, ge=1)
    """Most connections at a time over all workers and listeners, or to the listener that sets it; more get
    421. null: no limit."""

    max_clients_per_ip: int | None = Field(default=None, ge=1)
    """The same from one address; `check --public` refuses null."""

    max_connection_rate: int | None = Field(default=None, ge=1)
    """Most connections a minute from one address and process; more get 421."""

    max_auth_failure_rate: int | None = Field(default=None, ge=1)
    """Most failed AUTH commands a minute from one address and process; then AUTH gets 421 unchecked."""

    ipv6_prefix: int = Field(default=64, ge=1, le=128)
    """Bits of an IPv6 address that identify a client in counts by address."""

    max_refusal_lines: int | None = Field(default=30, ge=1)
    """Most log lines a minute of one kind about refusals of one address and process; one line counts the
    others."""

    max_recipients: int = Field(default=1_000, ge=1)
    """Most recipients of one mail; more get 452 4.5.3. RFC 5321 asks for at least 100."""

    max_refused_recipients: int = Field(default=50, ge=1)
    """Most refused recipients of one connection since its last accepted mail, then 421; those of a mail
    with an accepted one do not count."""

    max_messages_per_connection: int | None = Field(default=None, ge=1)
    """Most mails over one connection, then 421."""

    max_auth_failures: int = Field(default=5, ge=1)
    """Most failed AUTH commands of one connection, then 421."""

    max_header_size: ByteCount = Field(default=MIB, ge=KIB)
    """Largest header of a mail."""

    max_line_length: ByteCount = Field(default=64 * KIB, ge=1_000)
    """Longest line of a mail. RFC 5321 allows 1,000 bytes; real applications send more."""

    min_data_rate: ByteCount = Field(default=100, ge=0)
    """Bytes a second that DATA must bring, over the last 60 seconds; 0: any rate."""

    max_data_time: Milliseconds = Field(default=3_600_000, ge=1)
    """Time that a client may take to send one mail, then 421."""

    max_capture_memory: ByteCount = Field(default=32 * MIB, ge=MIB)
    """Memory for all mails that arrive; above it the largest go to the disk. The smallest value of all
    listeners counts."""

    max_capture_space: ByteCount = Field(default=4096 * MIB, ge=MIB)
    """Disk for all mails that arrive, likewise; above it the slowest end with 421 4.3.1."""

    min_free_space: ByteCount = Field(default=100 * MIB, ge=0)
    """What must stay free on the spool's disk; below it arriving mails end (421 4.3.1), and further ones get
    452 4.3.1."""

    socket_timeout: Milliseconds = Field(default=60_000, ge=1)
    """Time of silence after which the server disconnects a client."""

    close_timeout: Milliseconds = 30_000
    """Time that open connections get to finish when the server stops."""

    use_proxy: TrustedPeers = False
    """Expect a PROXY header (v1 or v2): true, or addresses and subnets of the proxies to believe."""

    use_xclient: TrustedPeers = Field(default=False, alias="useXClient")
    """Accept it: true, or addresses and subnets that may use it."""

    use_xforward: TrustedPeers = Field(default=False, alias="useXForward")
    """Accept it: true, or addresses and subnets that may use it."""

    lmtp: bool = False
    """Speak LMTP (RFC 2033): one reply per recipient after DATA."""

    min_version: TlsVersion = "TLSv1.2"
    """The oldest TLS version."""

    max_version: TlsVersion | None = None
    """The newest TLS version; null for the newest available."""

    ciphers: str | None = None
    """OpenSSL's cipher list for TLS 1.2 and older."""

    honor_cipher_order: bool = False
    """Choose the cipher by the server's order."""

    request_cert: bool = False
    """Ask clients for a certificate; its subject goes into the envelope."""

    reject_unauthorized: bool = True
    """With `requestCert`: refuse clients whose certificate does not verify."""

    sni_options: dict[str, SniCertificate] = Field(default_factory=dict)
    """Certificates by the host name that the client asks for."""

    helo_response: Line | None = None
    """Text of the answer to HELO and EHLO; the first `%s` is the server's host name, the second the
    client's."""

    auth_required_message: Line | None = None
    """Text of the 530 that asks a client to authenticate."""

    received: bool = True
    """Add a `Received:` field (RFC 5321 section 4.4)."""

    bare_newline: Literal["normalize", "refuse"] = "normalize"
    """For lone line feeds and carriage returns: `normalize` makes them CRLF and spaces, `refuse` answers
    550 5.6.11."""

    partial_accept: bool = False
    """Answer 250 if only some recipients are refused after DATA; each refused one becomes a dead
    record."""

    loggers: tuple[LoggerOptions, ...] | None = None
    """As at the top of the file."""

    log_addresses: bool | None = None
    """As at the top of the file."""

    @model_validator(mode="after")
    def _versions_in_order(self) -> SmtpOptions:
        if reason := self.versions_out_of_order():
            raise ValueError(reason)
        return self

    def versions_out_of_order(self) -> str:
        """Why no TLS version remains, "" if one does; a host name's own versions take precedence."""
        for name, own in {"": None, **self.sni_options}.items():
            oldest = (own and own.min_version) or self.min_version
            newest = (own and own.max_version) or self.max_version
            if newest is not None and newest < oldest:
                at = f" for sniOptions.{name}" if name else ""
                return f"maxVersion {newest} is older than minVersion {oldest}{at} (leave maxVersion out)"
        return ""

    @property
    def clear_text_auth(self) -> bool:
        """True if AUTH may happen without TLS on a listener that is not `secure`."""
        return self.allow_insecure_auth or self.hide_starttls or self.starttls_disabled

    @property
    def starttls_disabled(self) -> bool:
        """True if STARTTLS is refused."""
        return "STARTTLS" in self.disabled_commands

    @property
    def auth_disabled(self) -> bool:
        """True if AUTH is refused, and therefore never required."""
        return "AUTH" in self.disabled_commands or not self.auth_methods

    @property
    def must_authenticate(self) -> bool:
        """True if MAIL needs an authentication first."""
        return not self.auth_optional and not self.auth_disabled

    @property
    def offers_dsn(self) -> bool:
        """True if DSN is announced."""
        return self.dsn and not self.hide_dsn
