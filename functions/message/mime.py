"""A mail's content for outputs that show it, read lazily and within bounds.

Strangers write mail, and the standard library's parser recurses once per level, keeps every part, and
can take quadratic time. This reader only records where the parts are, without recursion, and decodes a
part on demand. No mail makes it raise.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from functions.message.addresses import MAX_ADDRESSES, Address, authors_of, parse_addresses
from functions.message.charset import decode, decode_words
from functions.message.fields import every_value, first_value, iter_fields
from functions.message.headers import head_size
from functions.message.reading.block import read_block
from functions.message.reading.bodies import MailTexts
from functions.message.reading.dates import read_date
from functions.message.reading.names import made_up_name
from functions.message.reading.structure import Leaf, Limits, own_delimiter, walk

if TYPE_CHECKING:
    from functions.message.mail import Mail

__all__ = ["Attachment", "Limits", "Parts", "Priority", "read_parts"]

log = logging.getLogger("smtp_relay.message")

Priority = Literal["high", "normal", "low"]
T = TypeVar("T")

_AT_ONCE: Final = 262_144  # bytes of a mail to read in one piece


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


def _guarded(default: Callable[[], Any]) -> Callable[[Callable[[Parts], T]], cached_property[T]]:
    """A cached property with a default if reading it fails: then an event lacks it, and no delivery fails
    because of that. `Parts.unread` names it, because an output that stores it must not take the default."""

    def wrap(read: Callable[[Parts], T]) -> cached_property[T]:
        def guard(self: Parts) -> T:
            try:
                return read(self)
            except Exception:  # a stranger's mail found a fault of ours
                log.exception("the mail cannot be read", extra={"id": self.id, "part": read.__name__})
                self.unread.add(read.__name__)
                lacking: T = default()
                return lacking

        guard.__doc__ = read.__doc__
        return cached_property(guard)

    return wrap


class Parts:
    """A mail's content for outputs that show it. Every property is read at its first use; `unread` are the
    names of those whose reading failed."""

    def __init__(self, mail: Mail, flow: str, data: bytes, limits: Limits) -> None:
        self.id = mail.id
        self.unread: set[str] = set()
        self._mail = mail
        self._flow = flow
        self._data = data
        self._limits = limits

    @cached_property
    def _block(self) -> tuple[bytes, int]:
        data = self._data
        return read_block(data, 0, len(data), most=self._limits.head, is_delimiter=own_delimiter)

    @cached_property
    def head(self) -> bytes:
        """The fields of the mail, up to their bound, without lines that are no fields."""
        return self._block[0]

    @_guarded(tuple)
    def fields(self) -> tuple[tuple[str, str], ...]:
        """Name and readable value of every header field, in the mail's order."""
        return tuple((decode(name), decode_words(value)) for name, value in iter_fields(self.head))

    @_guarded(lambda: None)
    def subject(self) -> str | None:
        return self._readable(b"subject")

    @_guarded(lambda: None)
    def message_id(self) -> str | None:
        """With its angle brackets."""
        return self._readable(b"message-id")

    @_guarded(list)
    def from_(self) -> list[Address]:
        """The header's authors, else the reverse-path."""
        path = self._mail.envelope.reverse_path
        # Of the whole header block, as it is checked and signed, so all mean the same author.
        authors = authors_of(self._data[: head_size(self._data)]).addresses
        return list(authors) or ([Address("", path)] if path else [])

    @_guarded(list)
    def to(self) -> list[Address]:
        """The header's To, else this flow's recipients."""
        recipients = self._mail.envelope.recipients_of(self._flow)
        return self._addresses(b"to") or [Address("", recipient) for recipient in recipients]

    @_guarded(list)
    def cc(self) -> list[Address]:
        return self._addresses(b"cc")

    @_guarded(list)
    def bcc(self) -> list[Address]:
        return self._addresses(b"bcc")

    @_guarded(list)
    def reply_to(self) -> list[Address]:
        return self._addresses(b"reply-to")

    @_guarded(lambda: None)
    def date(self) -> datetime | None:
        """The Date field as an aware datetime, None if it is absent or unreadable."""
        value = first_value(self.head, b"date")
        return None if value is None else read_date(decode(value[:1_000]))

    @_guarded(lambda: None)
    def priority(self) -> Priority | None:
        """From X-Priority, X-MSMail-Priority, Priority or Importance, else None."""
        for name in (b"x-priority", b"x-msmail-priority", b"priority", b"importance"):
            value = first_value(self.head, name)
            if value is not None:
                return _priority(decode(value[:100]).strip().lower())
        return None

    @_guarded(lambda: None)
    def text(self) -> str | None:
        """The text bodies with LF line ends, made from HTML where there is no text; None if there is
        neither."""
        return self._bodies.text

    @_guarded(lambda: None)
    def html(self) -> str | None:
        """The HTML bodies with LF line ends, None if there are none."""
        return self._bodies.html

    @cached_property
    def _bodies(self) -> MailTexts:
        return MailTexts(self.leaves, self._limits.text)

    @_guarded(list)
    def attachments(self) -> list[Attachment]:
        """Every other part, with forwarded mails and inline images, in the mail's order. A text with a
        name behind the first text is in `text`, and here as well, because it may be a file."""
        found: list[Attachment] = []
        has_body = False
        for leaf in self.leaves:
            if not leaf.is_body or (leaf.filename and has_body and not leaf.group):
                name = leaf.filename or made_up_name(leaf, len(found) + 1)
                found.append(Attachment(name, leaf))
            has_body = has_body or leaf.is_body
        return found

    @cached_property
    def leaves(self) -> list[Leaf]:
        """All parts with content, at most `Limits.parts`."""
        return list(walk(self._data, *self._block, self._limits))

    def _readable(self, name: bytes) -> str | None:
        value = first_value(self.head, name)
        return None if value is None else decode_words(value)

    def _addresses(self, name: bytes) -> list[Address]:
        """The addresses of all fields of this name (RFC 5322 section 4.5.3)."""
        found: list[Address] = []
        for value in every_value(self.head, name):
            found += parse_addresses(value, MAX_ADDRESSES - len(found))
        return found


def read_parts(mail: Mail, flow: str, limits: Limits | None = None) -> Parts:
    """The content of a mail as one flow's outputs show it. Reads the stored mail once."""
    limits = limits or Limits()
    if mail.content.size <= _AT_ONCE:
        return Parts(mail, flow, mail.content.read()[: limits.content], limits)
    return Parts(mail, flow, _whole(mail, min(mail.content.size, limits.content)), limits)


def _whole(mail: Mail, size: int) -> bytes:
    """The first `size` bytes of a mail, which memory holds once: the buffer has its size from the start,
    and gives its bytes away without a copy."""
    gathered = BytesIO()
    gathered.seek(size - 1)
    gathered.write(b"\0")
    gathered.seek(0)
    with mail.content.open() as stream:
        while (left := size - gathered.tell()) and (piece := stream.read(min(_AT_ONCE, left))):
            gathered.write(piece)
    gathered.truncate()
    return gathered.getvalue()


def _priority(value: str) -> Priority:
    number = re.match(r"\d+", value)
    if number is not None:
        level = int(number[0][:3])
        return "normal" if level == 3 else "low" if level > 3 else "high"
    if value in ("high", "urgent"):
        return "high"
    return "low" if value in ("low", "non-urgent") else "normal"
