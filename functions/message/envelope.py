"""The envelope: everything known of an accepted mail except its content (docs/concepts.md).

It is the contract between the listener, which writes it as the first field of the spool object, and
the code that delivers. Readers accept the current schema and the one before, and dispatch on the
number. The envelope names no output and never holds a secret.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

SCHEMA: Final = 1

FIELD_NAME: Final = b"X-SMTP-Relay-Envelope"

LAST: Final = 253_370_764_800_000
"""The largest Unix time accepted, in milliseconds: the year 9999, in which calendars end."""

_FOLD: Final = 76  # RFC 5322 section 2.1.1: lines SHOULD stay within 78 bytes
_WORDS: Final = 200  # most characters of the envelope that an error's reason quotes


class UnknownEnvelope(ValueError):
    """The bytes are not an envelope that this version reads; a retry never helps."""


# The setters of a model's four slots, because a look-up of each for every instance takes as long again.
_set_values, _set_names, _set_more, _set_private = (
    BaseModel.__dict__[slot].__set__
    for slot in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)
_new = object.__new__
_NONE_SET: Final[frozenset[str]] = frozenset()


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="ignore")

    @classmethod
    def made(cls, values: dict[str, Any]) -> Self:
        """An instance whose maker vouches for the values: one for each field, by attribute, of its type.
        Nothing is checked or copied, which takes a third of the time."""
        one = _new(cls)
        _set_values(one, values)
        _set_names(one, _NONE_SET)
        _set_more(one, None)
        _set_private(one, None)
        return one


class Recipient(_Frozen):
    """One accepted RCPT: its address without angle brackets, and the flows that took it."""

    address: str
    flows: tuple[str, ...]
    parameters: tuple[str, ...] = ()


class Client(_Frozen):
    """The client that sent the mail. `name` is the forward-confirmed reverse name, else `[ip]`."""

    ip: str
    port: int = 0
    name: str = ""


class Tls(_Frozen):
    """The TLS session that the mail came over."""

    version: str
    cipher: str
    client_subject: str | None = None


class FlowNotes(_Frozen):
    """The results of one flow's filters: fields to prepend at its deliveries, and notes."""

    headers: tuple[tuple[str, str], ...] = ()
    results: dict[str, Any] = Field(default_factory=dict)


class Refused(_Frozen):
    """A recipient accepted at RCPT and refused after DATA (`partialAccept`): the reply, and its RFC
    3463 enhanced status code. The envelope carries it because a bucket's listener may write only
    mails."""

    address: str
    reason: str
    code: str


class Envelope(_Frozen):
    """One accepted mail. `received` is Unix time in milliseconds; `sha256` (hex) and `size` (bytes) are
    those of the mail below the envelope field. An empty `sha256` means unknown."""

    schema_: int = Field(default=SCHEMA, alias="schema")
    id: str
    session: str
    received: int = Field(ge=0, le=LAST)
    reverse_path: str
    parameters: tuple[str, ...] = ()
    recipients: tuple[Recipient, ...]
    helo: str = ""
    client: Client
    server: str = ""
    """The listener's local address, `ip:port`."""
    listener: str = ""
    tls: Tls | None = None
    user: str | None = None
    transmission: str = "ESMTP"
    """RFC 3848 transmission type: SMTP, ESMTP, ESMTPS, ESMTPA, ESMTPSA, LMTP, UTF8SMTP …"""
    forwarded: dict[str, str] | None = None
    """The origin of the mail as the client stated it (XFORWARD): name, addr, port, proto, helo, ident,
    source."""
    notes: dict[str, FlowNotes] = Field(default_factory=dict)
    size: int = Field(ge=0)
    sha256: str = ""
    config: str = ""
    """Digest of the configuration that accepted the mail."""
    replay: int = Field(default=0, ge=0, le=2**31)
    refused: tuple[Refused, ...] = ()

    def hashed(self, sha256: str) -> Envelope:
        """This envelope with the mail's hash."""
        return Envelope.made(self.__dict__ | {"sha256": sha256})

    @property
    def received_at(self) -> datetime:
        """The received time as an aware datetime in UTC."""
        return datetime.fromtimestamp(self.received / 1000, UTC)

    @property
    def smtputf8(self) -> bool:
        """True if the client declared SMTPUTF8 (RFC 6531 section 3.4) for this mail."""
        return "SMTPUTF8" in self.parameters

    def flows(self) -> tuple[str, ...]:
        """Names of the flows that took a recipient, in first-taken order."""
        recipients = self.recipients
        if len(recipients) == 1:
            return recipients[0].flows
        # Most recipients of a mail have the same flows.
        return tuple(
            dict.fromkeys([name for flows in dict.fromkeys([r.flows for r in recipients]) for name in flows])
        )

    def recipients_of(self, flow: str) -> tuple[str, ...]:
        """The addresses that one flow took, in the client's order."""
        return tuple([r.address for r in self.recipients if flow in r.flows])

    def to_json(self) -> bytes:
        """Compact JSON; unset optional values are left out."""
        return _to_json(self, by_alias=True, exclude_none=True)


_to_json: Final = TypeAdapter(Envelope).serializer.to_json  # bytes at once


def encode_field(envelope: Envelope) -> bytes:
    """The envelope as one folded header field, CRLF at the end: the spool object's first bytes."""
    text = base64.b64encode(envelope.to_json())
    lines = [FIELD_NAME + b":"]
    lines += [b" " + text[at : at + _FOLD] for at in range(0, len(text), _FOLD)]
    return b"\r\n".join(lines) + b"\r\n"


def decode_value(value: bytes) -> Envelope:
    """Read the field's (folded) value. Raises UnknownEnvelope with the reason."""
    try:
        text = base64.b64decode(b"".join(value.split()), validate=True)
    except ValueError as error:
        raise UnknownEnvelope(f"the envelope field is not base64: {error}") from error
    return from_json(text)


def from_json(text: bytes | str) -> Envelope:
    """Read an envelope's JSON, by its schema number. Raises UnknownEnvelope with the reason, and
    nothing else, whatever the text is. An envelope that is read can be written again, and names a
    flow."""
    try:
        raw = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_finite_number
        )
    except ValueError as error:
        raise UnknownEnvelope(f"the envelope is not JSON: {_quoted(error)}") from error
    except (RecursionError, MemoryError) as error:
        raise UnknownEnvelope("the envelope is nested too deeply, or too large") from error
    version = raw.get("schema") if isinstance(raw, dict) else None
    reader = READERS.get(version) if type(version) is int else None
    if reader is None:
        known = ", ".join(map(str, sorted(READERS)))
        raise UnknownEnvelope(f"envelope schema {_quoted(version)} is not one of those read here: {known}")
    try:
        envelope = reader(raw)
        # An output or a replay may need to write the envelope, so one that cannot be written is not
        # read.
        envelope.to_json()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UnknownEnvelope(f"envelope field {_quoted(where)}: {_quoted(first['msg'])}") from error
    except PydanticSerializationError as error:
        raise UnknownEnvelope(f"the envelope cannot be written again: {_quoted(error)}") from error
    if not all(recipient.flows for recipient in envelope.recipients) or not envelope.recipients:
        # Without a flow no output would deliver the mail, and it would count as finished.
        raise UnknownEnvelope("the envelope names no recipient, or one that no flow took")
    return envelope


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in an object")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


def _finite_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{_quoted(text)} is too large a number")
    return number


def _quoted(something: object) -> str:
    return str(something)[:_WORDS]


READERS: Final[Mapping[int, Callable[[Mapping[str, Any]], Envelope]]] = {1: Envelope.model_validate}
"""Schema number to reader. When SCHEMA is raised, the previous reader stays and converts."""
