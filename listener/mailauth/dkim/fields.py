"""A mail's header fields as bytes, parsed once and shared by every check.

The parser accepts broken mails but keeps each field's original bytes, because "simple" canonicalization
signs them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from functions.message.canon import relaxed_usual, relaxed_value
from functions.message.headers import is_mailbox_line

MAX_FIELDS: Final = 2_000
"""Most fields to parse. A mail with more is not verified, because no real mail has more."""

_BOUNDARY: Final = re.compile(rb"\r\n(?![ \t])")
_NAME: Final = re.compile(rb"([!-9;-~]{1,997})[ \t]*")  # RFC 5322 sections 2.1.1, 2.2 and 4.5.8
_KEPT: Final = 64  # no longer name is kept
MOST_NAMES: Final = 1_024
"""Most names to keep."""


class HeaderField:
    """One field. `name` is in lower case, `raw` all its bytes but the final CRLF, `value` what follows
    the colon, still folded."""

    __slots__ = ("name", "raw", "value")

    def __init__(self, name: bytes, raw: bytes, value: bytes) -> None:
        self.name = name
        self.raw = raw
        self.value = value

    @property
    def relaxed(self) -> bytes:
        """The field in "relaxed" canonical form without CRLF (RFC 6376 section 3.4.2)."""
        return self.name + b":" + relaxed_value(self.value)


class HeaderBlock:
    """All fields, top first, of a header block that `functions.message.headers.head_size` found, with or
    without the empty line behind it; `head` is the block.

    `fault` says in a few words why no signature over the fields can count ("" for a sound header): there
    are more than MAX_FIELDS, or a line is not a field, and readers differ about whether the body begins
    there. `plain` says that every line is a field or continues one. `by_name` has the bytes of the fields
    of each lower-case name, top first, each without its final CRLF; `count` is the number of all fields.
    `usual` says that its white space is only spaces, tabs and CRLFs; `crlf`, that `head` has no CR or LF but
    in CRLFs. `relaxed` makes the canonical form of a value.
    """

    __slots__ = ("by_name", "count", "fault", "head", "plain", "relaxed", "usual")

    def __init__(self, head: bytes, *, crlf: bool = False) -> None:
        by_name: dict[bytes, list[bytes]] = {}
        end = head.find(b"\r\n\r\n")
        block = b"" if head.startswith(b"\r\n") else head[:end] if end >= 0 else head.removesuffix(b"\r\n")
        parts = _BOUNDARY.split(block, MAX_FIELDS)
        count = len(parts)
        fault = ""
        if count > MAX_FIELDS:
            fault = "too many header fields"
            count = MAX_FIELDS
            parts.pop()
        plain = True
        for raw in parts:
            before, colon, _ = raw.partition(b":")
            if colon and (name := known_names.get(before) or _name(before)):
                if name in by_name:
                    by_name[name].append(raw)
                else:
                    by_name[name] = [raw]
                continue
            count -= 1
            if raw:
                plain = False
                if not is_mailbox_line(raw):
                    fault = fault or "malformed header"
        self.count: Final = count
        self.head: Final = block
        self.fault: Final = fault
        self.plain: Final = plain and not fault
        self.by_name: Final = by_name
        # To bytes.split() more is white space than to RFC 5322.
        self.usual: Final = crlf and b"\v" not in block and b"\f" not in block
        self.relaxed: Final[Callable[[bytes], bytes]] = relaxed_usual if self.usual else relaxed_value

    def named(self, name: bytes) -> list[HeaderField]:
        """The fields of one lower-case name, top first."""
        return [HeaderField(name, raw, value_of(raw)) for raw in self.by_name.get(name, ())]


def value_of(raw: bytes) -> bytes:
    """What follows the colon in a field's bytes, still folded."""
    return raw.partition(b":")[2]


def unfolded(raw: bytes) -> bytes:
    """The value in a field's bytes without line breaks and outer white space."""
    return raw.partition(b":")[2].replace(b"\r\n", b"").strip(b" \t")


known_names: Final[dict[bytes, bytes]] = {}
"""The lower-case names of the last texts in front of a colon, because mails repeat a few."""


def _name(text: bytes) -> bytes:
    """The lower-case name in the text in front of a colon; b"" if it is none."""
    found = _NAME.fullmatch(text)
    if found is None:
        return b""
    name = found[1].lower()
    if len(text) <= _KEPT:
        if len(known_names) >= MOST_NAMES:
            known_names.clear()
        known_names[text] = name
    return name
