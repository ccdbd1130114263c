"""A mail's header fields as bytes, parsed once and shared by every check.

The parser accepts broken mails but keeps each field's original bytes, because "simple" canonicalization
signs them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from functions.message.canon import relaxed_value
from functions.message.headers import is_mailbox_line

MAX_FIELDS: Final = 2_000
"""Most fields to parse. A mail with more is not verified, because no real mail has more."""

_BOUNDARY: Final = re.compile(rb"\r\n(?![ \t])")
_NAME: Final = re.compile(rb"([!-9;-~]{1,997})[ \t]*")  # RFC 5322 sections 2.1.1, 2.2 and 4.5.8
_KEPT: Final = 64  # no longer name is kept


class HeaderField:
    """One field. `name` is in lower case, `raw` all its bytes but the final CRLF, `value` what follows
    the colon, still folded."""

    __slots__ = ("_relaxed", "name", "raw", "value")

    def __init__(self, name: bytes, raw: bytes, value: bytes) -> None:
        self.name = name
        self.raw = raw
        self.value = value
        self._relaxed: bytes | None = None

    @property
    def relaxed(self) -> bytes:
        """The field in "relaxed" canonical form without CRLF (RFC 6376 section 3.4.2)."""
        if self._relaxed is None:
            self._relaxed = self.name + b":" + relaxed_value(self.value)
        return self._relaxed

    @property
    def unfolded(self) -> bytes:
        """The value without line breaks and outer white space."""
        return self.value.replace(b"\r\n", b"").strip(b" \t")


class HeaderBlock:
    """All fields, top first, of a header block that `functions.message.headers.head_size` found, with or
    without the empty line behind it; `head` is the block.

    `fault` says in a few words why no signature over the fields can count ("" for a sound header): there
    are more than MAX_FIELDS, or a line is not a field, and readers differ about whether the body begins
    there. `plain` says that every line is a field or continues one. `by_name` has the fields of each
    lower-case name, top first.
    """

    def __init__(self, head: bytes) -> None:
        fields: list[HeaderField] = []
        by_name: dict[bytes, list[HeaderField]] = {}
        end = head.find(b"\r\n\r\n")
        block = b"" if head.startswith(b"\r\n") else head[:end] if end >= 0 else head.removesuffix(b"\r\n")
        parts = _BOUNDARY.split(block, MAX_FIELDS)
        self.fault = "too many header fields" if len(parts) > MAX_FIELDS else ""
        plain = True
        for raw in parts[:MAX_FIELDS]:
            before, colon, value = raw.partition(b":")
            name = (_name(before) if len(before) <= _KEPT else _name.__wrapped__(before)) if colon else b""
            if name:
                field = HeaderField(name, raw, value)
                fields.append(field)
                if name in by_name:
                    by_name[name].append(field)
                else:
                    by_name[name] = [field]
            elif raw:
                plain = False
                if not is_mailbox_line(raw):
                    self.fault = self.fault or "malformed header"
        self.fields: Final = fields
        self.head: Final = block
        self.plain: Final = plain and not self.fault
        self.by_name: Final = by_name

    def named(self, name: bytes) -> list[HeaderField]:
        """The fields of one lower-case name, top first."""
        return self.by_name.get(name, [])


@lru_cache(maxsize=1_024)  # mails repeat a few names
def _name(text: bytes) -> bytes:
    """The lower-case name in the text in front of a colon; b"" if it is none."""
    found = _NAME.fullmatch(text)
    return found[1].lower() if found else b""
