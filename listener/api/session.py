"""The facts about a connection and about the mail that is being sent over it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, ClassVar, Protocol

from functions.message.envelope import Client, Tls
from listener.api.decision import Reply

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(slots=True)
class Session:
    """Connection facts. After PROXY or XCLIENT, `ip`, `port` and `name` are the real client's.

    `ip` is canonical text: an IPv4-mapped IPv6 peer is given as IPv4. `name` is the
    forward-confirmed reverse name in lower case, else `[ip]`.
    """

    id: str
    listener: str
    ip: str
    port: int
    name: str
    server: str
    name_sure: bool = True
    """False if the reverse lookup failed temporarily, so `name` may change later."""
    helo: str = ""
    esmtp: bool = False
    lmtp: bool = False
    tls: Tls | None = None
    user: str | None = None
    failed_logins: int = 0
    _client: Client | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def client(self) -> Client:
        """The client as envelopes have it; its mails share it."""
        if self._client is None:
            self._client = Client.made({"ip": self.ip, "port": self.port, "name": self.name})
        return self._client

    @property
    def address(self) -> IPAddress:
        """The client's address, for subnet tests."""
        return ipaddress.ip_address(self.ip)

    def become(self, ip: str, port: int) -> None:
        """The client is another host than the peer of the socket (PROXY, XCLIENT)."""
        self.ip, self.port = ip, port
        self.named(f"[{ip}]")

    def named(self, name: str, sure: bool = True) -> None:
        """The client's name was found, or `[ip]` if it has none."""
        self.name, self.name_sure = name, sure
        self._client = None

    def reached(self, host: str, port: int | str) -> None:
        """The client connected to this local address."""
        self.server = address_text(host, port)

    def greeted(self, helo: str, *, esmtp: bool) -> None:
        """The client gave its name; "" forgets the name."""
        self.helo, self.esmtp = helo, esmtp

    def encrypted(self, tls: Tls) -> None:
        """The TLS handshake is done."""
        self.tls = tls

    def authenticated(self, username: str | None) -> None:
        """The client logged in as this user, or must log in again ("")."""
        self.user = username

    def login_failed(self) -> None:
        """The client gave wrong credentials."""
        self.failed_logins += 1

    def transmission(self, *, smtputf8: bool) -> str:
        """The transmission type of a mail (RFC 3848 section 1, and RFC 6531 section 4.3 for UTF8…)."""
        if self.lmtp:
            word = "UTF8LMTP" if smtputf8 else "LMTP"
        elif not self.esmtp:
            return "SMTP"
        else:
            word = "UTF8SMTP" if smtputf8 else "ESMTP"
        if self.tls is not None:
            word += "S"
        if self.user is not None:
            word += "A"
        return word


def address_text(host: str, port: int | str) -> str:
    """A local address as `Session.server` has it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The client's AUTH data. For XOAUTH2 `password` is the bearer token; for CRAM-MD5 it is the hex
    digest and `challenge` the server's challenge. Never logged."""

    mechanism: str
    username: str
    password: str = field(repr=False)
    challenge: bytes = b""


@dataclass(slots=True)
class RefusedRecipients:
    """How many recipients of a mail were refused or deferred at RCPT; `shown` are the first few, and
    `first_reply` what the first of them was told."""

    MAX_SHOWN: ClassVar[int] = 10

    refused: int = 0
    deferred: int = 0
    first_reply: str = ""
    shown: list[str] = field(default_factory=list)

    def add(self, recipient: str, reply: Reply) -> None:
        """One more."""
        if not self.shown:
            self.first_reply = str(reply)
        if len(self.shown) < self.MAX_SHOWN:
            self.shown.append(recipient)
        if reply.code >= 500:
            self.refused += 1
        else:
            self.deferred += 1


@dataclass(slots=True)
class Transaction:
    """One mail in the making, from MAIL to the reply after DATA.

    `reverse_path` is "" for the null sender. `recipients` are the RCPTs accepted so far, without
    angle brackets; parameters are the client's words, upper-cased keyword first.
    """

    id: str
    reverse_path: str
    parameters: tuple[str, ...] = ()
    recipients: list[str] = field(default_factory=list)
    recipient_parameters: list[tuple[str, ...]] = field(default_factory=list)
    transmission: str = ""
    """The transmission type (`Session.transmission`), once the mail's content is to come."""
    forwarded: dict[str, str] | None = None
    """The origin of the mail that XFORWARD stated, by attribute in lower case."""
    refused: RefusedRecipients | None = None
    """The recipients given to `refuse` since the last `take_refused`."""
    records: dict[object, Any] | None = None
    """What filters keep about the mail, each under a key of its own; None while there is nothing."""

    def add(self, recipient: str, parameters: tuple[str, ...]) -> None:
        """RCPT was accepted."""
        self.recipients.append(recipient)
        self.recipient_parameters.append(parameters)

    def refuse(self, recipient: str, reply: Reply) -> None:
        """RCPT was refused or deferred."""
        if self.refused is None:
            self.refused = RefusedRecipients()
        self.refused.add(recipient, reply)

    def take_refused(self) -> RefusedRecipients | None:
        """The recipients given to `refuse` since the last call; None if there are none."""
        refused, self.refused = self.refused, None
        return refused

    @property
    def smtputf8(self) -> bool:
        """True if MAIL declared SMTPUTF8 (RFC 6531)."""
        return "SMTPUTF8" in self.parameters

    @property
    def domain(self) -> str:
        """The reverse-path's domain in lower case; "" for the null sender."""
        return self.reverse_path.rpartition("@")[2].lower() if "@" in self.reverse_path else ""


class Message(Protocol):
    """The mail as received (dots unstuffed, line ends normalized), for data filters.

    `head` is the header block with the empty line that ends it, if there is one. A small mail is in
    memory, a large one on disk. `content()` reads all of it at once; `chunks()` never holds more
    than `size` bytes.
    """

    @property
    def head(self) -> bytes:
        """The header block as received."""

    size: int

    crlf: bool
    """True if the lines are known to end in CRLF, and to hold no other CR or LF."""

    def content(self) -> bytes: ...

    def chunks(self, size: int = 262_144) -> Iterator[bytes]: ...

    def open(self) -> BinaryIO: ...
