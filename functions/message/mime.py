"""A mail's content for outputs that show it, read lazily and within bounds.

Strangers write mail, and the standard library's parser recurses once per level, keeps every part, and
can take quadratic time. This reader only records where the parts are, without recursion, and decodes a
part on demand. No mail makes it raise.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from mimetypes import MimeTypes
from typing import TYPE_CHECKING, Final, Literal

from functions.message.addresses import Address, authors_of, parse_addresses
from functions.message.charset import decode, decode_base64, decode_words
from functions.message.fields import first_value, iter_fields
from functions.message.headers import CRLF, head_size
from functions.message.html_text import text_of_html
from functions.message.parameters import parse_parameters
from functions.message.text import printable

if TYPE_CHECKING:
    from functions.message.mail import Mail

Priority = Literal["high", "normal", "low"]

_TYPES: Final = MimeTypes(filenames=())  # the built-in table, because it is the same on every machine
_TYPES_EXTENSION: Final = {"message/rfc822": ".eml", "text/plain": ".txt", "text/calendar": ".ics"}
_DELIMITER_END: Final = re.compile(rb"(--)?[ \t]*(?:\r\n|\Z)")
_NEAR_DELIMITERS: Final = 10_000
_PART_HEAD: Final = 65_536  # bytes of a part's header block to search for MIME fields


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for reading a mail.

    `content` and `head` are bytes of the mail and of its header block, `text` bytes of all text bodies
    before decoding (the same again for html), `scan` how many bytes the search for parts may scan for
    each byte of the mail.
    """

    content: int = 67_108_864
    head: int = 262_144
    parts: int = 1_000
    depth: int = 50
    text: int = 16_777_216
    scan: int = 8


@dataclass(frozen=True)
class Leaf:
    """A part that holds content, by its place in the mail."""

    data: bytes
    start: int
    end: int
    content_type: str
    parameters: dict[str, str]
    disposition: str
    filename: str
    encoding: str

    def payload(self, most: int | None = None) -> bytes:
        """The content without its transfer encoding (RFC 2045 section 6), decoded from the first `most`
        encoded bytes. Unknown encodings count as binary."""
        end = self.end if most is None else min(self.end, self.start + most)
        raw = self.data[self.start : end]
        if self.encoding == "base64":
            return decode_base64(raw)
        if self.encoding == "quoted-printable":
            return binascii.a2b_qp(raw)
        return raw

    @cached_property
    def size(self) -> int:
        """Size of the decoded content in bytes."""
        return (
            len(self.payload()) if self.encoding in ("base64", "quoted-printable") else self.end - self.start
        )

    @property
    def is_body(self) -> bool:
        """True if this is (one of) the mail's texts and not an attachment."""
        return (
            self.content_type in ("text/plain", "text/html")
            and self.disposition != "attachment"
            and not self.filename
        )


@dataclass(frozen=True)
class Attachment:
    """A part that is not a text of the mail. `filename` is the sender's, without control characters, or
    derived from the content type; it is not safe as a path."""

    filename: str
    leaf: Leaf

    @property
    def content_type(self) -> str:
        return self.leaf.content_type

    @property
    def size(self) -> int:
        """Size of the decoded content in bytes."""
        return self.leaf.size

    def payload(self) -> bytes:
        """The decoded content."""
        return self.leaf.payload()


class Parts:
    """A mail's content for outputs that show it. Every property is read at its first use."""

    def __init__(self, mail: Mail, flow: str, data: bytes, limits: Limits) -> None:
        self._mail = mail
        self._flow = flow
        self._data = data
        self._limits = limits

    @cached_property
    def head(self) -> bytes:
        """The header block, up to its bound."""
        return self._data[: min(head_size(self._data), self._limits.head)]

    @cached_property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """Name and readable value of every header field, in the mail's order."""
        return tuple((decode(name), decode_words(value)) for name, value in iter_fields(self.head))

    @cached_property
    def subject(self) -> str | None:
        return self._readable(b"subject")

    @cached_property
    def message_id(self) -> str | None:
        """With its angle brackets."""
        return self._readable(b"message-id")

    @cached_property
    def from_(self) -> list[Address]:
        """The header's authors, else the reverse-path."""
        path = self._mail.envelope.reverse_path
        authors = authors_of(self._data[: head_size(self._data)]).addresses
        return list(authors) or ([Address("", path)] if path else [])

    @cached_property
    def to(self) -> list[Address]:
        """The header's To, else this flow's recipients."""
        recipients = self._mail.envelope.recipients_of(self._flow)
        return self._addresses(b"to") or [Address("", recipient) for recipient in recipients]

    @cached_property
    def cc(self) -> list[Address]:
        return self._addresses(b"cc")

    @cached_property
    def bcc(self) -> list[Address]:
        return self._addresses(b"bcc")

    @cached_property
    def reply_to(self) -> list[Address]:
        return self._addresses(b"reply-to")

    @cached_property
    def date(self) -> datetime | None:
        """The Date field as an aware datetime, None if it is absent or unreadable."""
        value = first_value(self.head, b"date")
        if value is None:
            return None
        try:
            date = parsedate_to_datetime(decode(value[:200]))
            return date if date.tzinfo else date.replace(tzinfo=UTC)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None

    @cached_property
    def priority(self) -> Priority | None:
        """From X-Priority, X-MSMail-Priority, Priority or Importance, else None."""
        for name in (b"x-priority", b"x-msmail-priority", b"priority", b"importance"):
            value = first_value(self.head, name)
            if value is not None:
                return _priority(decode(value[:100]).strip().lower())
        return None

    @cached_property
    def text(self) -> str | None:
        """The text bodies with LF line ends, else derived from `html`; None if there is neither."""
        text = self._bodies("text/plain")
        return text_of_html(self.html) if text is None and self.html is not None else text

    @cached_property
    def html(self) -> str | None:
        """The HTML bodies with LF line ends, None if there are none."""
        return self._bodies("text/html")

    @cached_property
    def attachments(self) -> list[Attachment]:
        """Every other part, with forwarded mails and inline images, in the mail's order."""
        leaves = [leaf for leaf in self.leaves if not leaf.is_body]
        return [Attachment(leaf.filename or _made_up(leaf, at), leaf) for at, leaf in enumerate(leaves, 1)]

    @cached_property
    def leaves(self) -> list[Leaf]:
        """All parts with content, at most `Limits.parts`."""
        return list(_walk(self._data, self._limits))

    def _bodies(self, content_type: str) -> str | None:
        left = self._limits.text
        found: list[str] = []
        for leaf in self.leaves:
            if leaf.is_body and leaf.content_type == content_type:
                text = decode(leaf.payload(left), leaf.parameters.get("charset", ""))
                found.append(text.replace("\r\n", "\n"))
                left -= min(left, leaf.end - leaf.start)
        return "\n".join(found) if found else None

    def _readable(self, name: bytes) -> str | None:
        value = first_value(self.head, name)
        return None if value is None else decode_words(value)

    def _addresses(self, name: bytes) -> list[Address]:
        value = first_value(self.head, name)
        return [] if value is None else parse_addresses(value)


def read_parts(mail: Mail, flow: str, limits: Limits | None = None) -> Parts:
    """The content of a mail as one flow's outputs show it. Reads the stored mail once."""
    limits = limits or Limits()
    if mail.content.size <= limits.content:
        return Parts(mail, flow, mail.content.read(), limits)
    with mail.content.open() as stream:
        return Parts(mail, flow, stream.read(limits.content), limits)


def _walk(data: bytes, limits: Limits) -> Iterator[Leaf]:
    """The leaves in order, depth first with an explicit stack."""
    budget = limits.scan * len(data) + 1_048_576
    parts = 0
    stack = [(0, len(data), 0, "text/plain")]
    while stack and parts < limits.parts:
        start, end, depth, default = stack.pop()
        parts += 1
        budget -= end - start
        leaf = _read_leaf(data, start, end, default)
        boundary = leaf.parameters.get("boundary", "") if leaf.content_type.startswith("multipart/") else ""
        if not boundary or depth >= limits.depth or budget < 0:
            yield leaf if boundary else _as_text(leaf)
            continue
        below = "message/rfc822" if leaf.content_type == "multipart/digest" else "text/plain"
        ranges = _split(data, leaf.start, leaf.end, boundary, limits.parts - parts)
        if not ranges and limits.parts > parts:
            yield _as_text(leaf)
        stack += [(at, to, depth + 1, below) for at, to in reversed(ranges)]


def _as_text(leaf: Leaf) -> Leaf:
    """A multipart without delimiter lines counts as text."""
    if not leaf.content_type.startswith("multipart/"):
        return leaf
    return replace(leaf, content_type="text/plain", parameters={})


def _split(data: bytes, start: int, end: int, boundary: str, most: int) -> list[tuple[int, int]]:
    """The body parts between the delimiter lines (RFC 2046 section 5.1.1)."""
    delimiter = b"--" + boundary.encode("utf-8", "replace")
    ranges: list[tuple[int, int]] = []
    opened: int | None = None
    # The first delimiter may stand at the very start, without a preceding CRLF.
    at = start if data.startswith(delimiter, start, end) else _next(data, delimiter, start, end)
    tries = 0
    while at >= 0 and len(ranges) < most and tries < _NEAR_DELIMITERS:
        tries += 1
        line_end = _DELIMITER_END.match(data, at + len(delimiter), end)
        if line_end is not None:
            if opened is not None:
                ranges.append((opened, max(opened, at - 2)))
            opened = line_end.end()
            if line_end[1]:
                return ranges
        # A delimiter line's CRLF may also be the one that precedes the next delimiter.
        at = _next(
            data, delimiter, max(start, (line_end.end() if line_end else at + len(delimiter)) - 2), end
        )
    if opened is not None and len(ranges) < most:
        ranges.append((opened, end))
    return ranges


def _next(data: bytes, delimiter: bytes, start: int, end: int) -> int:
    found = data.find(CRLF + delimiter, start, end)
    return found + 2 if found >= 0 else -1


def _read_leaf(data: bytes, start: int, end: int, default: str) -> Leaf:
    if data.startswith(CRLF, start, end):
        head, body = b"", start + 2
    else:
        size = head_size(data, start, end)
        head = data[start : start + min(size, _PART_HEAD)]
        body = min(end, start + size + 2) if size else start
    content_type, disposition, encoding = default, "", ""
    parameters: dict[str, str] = {}
    names: dict[str, str] = {}
    if (value := first_value(head, b"content-type")) is not None:
        content_type, parameters = parse_parameters(value)
        if "/" not in content_type:
            content_type = default  # RFC 2045 section 5.2
    if (value := first_value(head, b"content-disposition")) is not None:
        disposition, names = parse_parameters(value)
    if (value := first_value(head, b"content-transfer-encoding")) is not None:
        encoding = decode(value[:100]).strip().lower()
    filename = names.get("filename") or parameters.get("name") or ""
    return Leaf(data, body, end, content_type, parameters, disposition, _clean(filename), encoding)


def _clean(text: str) -> str:
    return printable(text).strip()


def _made_up(leaf: Leaf, number: int) -> str:
    extension = _TYPES_EXTENSION.get(leaf.content_type) or _TYPES.guess_extension(leaf.content_type)
    return f"attachment-{number}{extension or '.bin'}"


def _priority(value: str) -> Priority:
    number = re.match(r"\d+", value)
    if number is not None:
        level = int(number[0][:3])
        return "normal" if level == 3 else "low" if level > 3 else "high"
    if value in ("high", "urgent"):
        return "high"
    return "low" if value in ("low", "non-urgent") else "normal"
