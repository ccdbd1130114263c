"""The parts of a mail: where they are, and what their headers say.

One pass over the delimiter lines of all open multiparts, as RFC 2046 section 5.1.2 asks: a line that ends
an outer part ends what is open inside it. Without recursion, and within bounds, because strangers write
mail. No mail makes it raise.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from functions.message.charset import decode
from functions.message.fields import first_value
from functions.message.parameters import parse_parameters
from functions.message.reading import transfer
from functions.message.reading.block import read_block
from functions.message.text import printable

_DELIMITER_END: Final = re.compile(rb"(--)?[ \t]*(?:\r?\n|\Z)")
_UNDECLARED: Final = re.compile(rb"(?:[ \t]*+\r?\n){0,3}--([^\r\n]{1,200}?)[ \t]*\r?\n")
_NEAR_DELIMITERS: Final = 10_000
_BOUNDARY_WITHIN: Final = 1_048_576  # bytes of a multipart in which its boundary has to stand
_PART_HEAD: Final = 65_536  # bytes of a part's header block to search for MIME fields


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for reading a mail.

    `content` and `head` are bytes of the mail and of its header block, `text` bytes of all text bodies
    without their transfer encodings (the same again for html), `scan` how many bytes the search for parts
    may scan for each byte of the mail.
    """

    content: int = 67_108_864
    head: int = 262_144
    parts: int = 1_000
    depth: int = 50
    text: int = 16_777_216
    scan: int = 8


@dataclass(frozen=True)
class Leaf:
    """A part that holds content, by its place in the mail. `group` is the same for all parts of one
    multipart/alternative, and 0 outside of them. `content_id` has no angle brackets. `place` tells the
    part from others: which part (from 1) of the mail, which part of that, and so on; () for a mail that
    is one part. `above` are the types of the multiparts that it is in, the outermost first."""

    data: bytes
    start: int
    end: int
    content_type: str
    parameters: dict[str, str]
    disposition: str
    filename: str
    encoding: str
    content_id: str = ""
    group: int = 0
    place: tuple[int, ...] = ()
    above: tuple[str, ...] = ()

    def payload(self, most: int | None = None) -> bytes:
        """The content without its transfer encoding (RFC 2045 section 6), or the first `most` bytes of
        it. Unknown encodings count as binary."""
        if not transfer.changes(self.encoding):
            return self.data[self.start : self.end if most is None else min(self.end, self.start + most)]
        found: list[bytes] = []
        left = self.end if most is None else most
        for piece in transfer.pieces(self.data, self.start, self.end, self.encoding):
            found.append(piece[:left])
            left -= len(piece)
            if left <= 0:
                break
        return b"".join(found)

    @cached_property
    def size(self) -> int:
        """Size of the decoded content in bytes."""
        return self._measured[0] if transfer.changes(self.encoding) else self.end - self.start

    @property
    def sha256(self) -> str:
        """SHA-256 of the decoded content, in hex."""
        return self._measured[1]

    @cached_property
    def _measured(self) -> tuple[int, str]:
        size, digest = 0, hashlib.sha256()
        for piece in transfer.pieces(self.data, self.start, self.end, self.encoding):
            size += len(piece)
            digest.update(piece)
        return size, digest.hexdigest()

    @property
    def is_body(self) -> bool:
        """True if this is (one of) the mail's texts and not an attachment."""
        return self.content_type in ("text/plain", "text/html") and self.disposition != "attachment"


@dataclass(slots=True)
class _Open:
    """A multipart whose end is not reached. `default` is the content type of parts that name none."""

    boundary: bytes
    leaf: Leaf
    default: str
    group: int
    parts: int = 0


class _Delimiters:
    """Finds the next delimiter line of any open multipart. What is found, or is known not to come before
    some place, is remembered, so each level scans the mail once."""

    def __init__(self, data: bytes, budget: int) -> None:
        self._data = data
        self._budget = budget
        self._tries = 0
        self._found: dict[bytes, int] = {}
        self._free: dict[bytes, int] = {}

    @property
    def spent(self) -> bool:
        """True if no more levels may be opened."""
        return self._budget < 0

    def after(self, at: int, opened: list[_Open]) -> tuple[int, int]:
        """Place of the next delimiter line from `at` on, and the index of the multipart that it belongs
        to; the end of the mail and -1 if there is none."""
        limit, index = len(self._data), -1
        for number, each in enumerate(opened):
            place = self._found.get(each.boundary, -1)
            if place < at:
                place = self._search(each.boundary, max(at, self._free.get(each.boundary, 0)), limit)
            if 0 <= place <= limit and place < len(self._data):
                limit, index = place, number
        return limit, index

    def _search(self, boundary: bytes, at: int, limit: int) -> int:
        line = b"\n--" + boundary
        start = at
        while at <= limit and self._tries < _NEAR_DELIMITERS:
            found = self._data.find(line, max(0, at - 1), min(len(self._data), limit + len(line)))
            if found < 0:
                break
            if _DELIMITER_END.match(self._data, found + len(line)) is not None:
                self._budget -= found - start
                self._found[boundary] = found + 1
                return found + 1
            self._tries += 1
            at = found + len(line)
        self._budget -= limit - start
        self._free[boundary] = limit
        return -1


def walk(data: bytes, head: bytes, body: int, limits: Limits) -> Iterator[Leaf]:
    """The parts with content, in the mail's order. `head` and `body` are the mail's fields and the place
    of its body."""
    delimiters = _Delimiters(data, limits.scan * len(data) + 1_048_576)
    opened: list[_Open] = []
    parts = groups = 0
    at = body
    leaf: Leaf | None = _leaf_of(data, head, body, "text/plain")
    while True:
        if leaf is not None:
            parts += 1
            boundary = _boundary(leaf) if leaf.content_type.startswith("multipart/") else b""
            group = opened[-1].group if opened else 0
            leaf = replace(leaf, group=group) if group else leaf
            if boundary and len(opened) < limits.depth and not delimiters.spent and parts < limits.parts:
                if leaf.content_type == "multipart/alternative" and not group:
                    groups += 1
                    group = groups
                below = "message/rfc822" if leaf.content_type == "multipart/digest" else "text/plain"
                opened.append(_Open(boundary, leaf, below, group))
                leaf = None
            elif not boundary:
                leaf = _as_text(leaf)
        place, index = delimiters.after(at, opened)
        end = place if index < 0 else _line_start(data, place)
        if leaf is not None:
            yield replace(leaf, end=max(leaf.start, end))
            leaf = None
            if parts >= limits.parts:
                return
        while len(opened) > index + 1:
            closed = opened.pop()
            if not closed.parts:
                parts += 1
                yield _as_text(replace(closed.leaf, end=max(closed.leaf.start, end)))
        if index < 0:
            return
        line_end = _DELIMITER_END.match(data, place + 2 + len(opened[index].boundary))
        assert line_end is not None  # the search found it so
        at = line_end.end()
        opened[index].parts += 1
        if line_end[1]:
            opened.pop()
        else:
            leaf = _read_leaf(data, at, opened)
            at = leaf.start


def _line_start(data: bytes, place: int) -> int:
    """The line end before a delimiter line belongs to it (RFC 2046 section 5.1.1)."""
    return place - 2 if data[place - 2 : place] == b"\r\n" else place - 1


def _as_text(leaf: Leaf) -> Leaf:
    """A multipart without delimiter lines counts as text."""
    if not leaf.content_type.startswith("multipart/"):
        return leaf
    return replace(leaf, content_type="text/plain", parameters={})


def _boundary(leaf: Leaf) -> bytes:
    """The boundary, without the blanks at its end, which belong to no boundary (RFC 2046 section 5.1.1).
    The first line has it where it looks like a delimiter, and the parameter is missing, differs from the
    line in nothing but case, quotes or blanks, or stands nowhere below."""
    declared = leaf.parameters.get("boundary", "").rstrip().encode("utf-8", "replace")
    found = _UNDECLARED.match(leaf.data, leaf.start)
    if found is None:
        return declared
    alike = declared.strip(b" \t\"'").lower() == found[1].strip(b" \t\"'").lower()
    if alike or not declared:
        return found[1]
    used = leaf.data.find(b"\n--" + declared, leaf.start - 1, leaf.start + _BOUNDARY_WITHIN)
    return declared if used >= 0 else found[1]


def _read_leaf(data: bytes, start: int, opened: list[_Open]) -> Leaf:
    def is_delimiter(line: bytes, fields: bytes) -> bool:
        text = line[2:].rstrip()
        return own_delimiter(line, fields) or any(
            text in (one.boundary, one.boundary + b"--") for one in opened
        )

    head, body = read_block(data, start, len(data), most=_PART_HEAD, is_delimiter=is_delimiter)
    leaf = _leaf_of(data, head, body, opened[-1].default)
    around = opened[-1].leaf
    return replace(leaf, place=(*around.place, opened[-1].parts), above=(*around.above, around.content_type))


def own_delimiter(line: bytes, fields: bytes) -> bool:
    """True if a line below a mail's fields separates the parts that they announce."""
    value = first_value(fields, b"content-type")
    boundary = parse_parameters(value)[1].get("boundary", "").rstrip().encode() if value else b""
    return bool(boundary) and line[2:].rstrip() in (boundary, boundary + b"--")


def _leaf_of(data: bytes, head: bytes, body: int, default: str) -> Leaf:
    content_type, disposition, encoding = default, "", ""
    parameters: dict[str, str] = {}
    names: dict[str, str] = {}
    if (value := first_value(head, b"content-type")) is not None:
        content_type, parameters = parse_parameters(value)
        if not content_type.partition("/")[2]:
            content_type = default  # RFC 2045 section 5.2
    if (value := first_value(head, b"content-disposition")) is not None:
        disposition, names = parse_parameters(value)
    if (value := first_value(head, b"content-transfer-encoding")) is not None:
        encoding = transfer.encoding_of(decode(value[:100]))
    filename = names.get("filename") or parameters.get("name") or ""
    content_id = decode((first_value(head, b"content-id") or b"")[:998]).strip().strip("<>")
    return Leaf(
        data,
        body,
        len(data),
        content_type,
        parameters,
        disposition,
        _clean(filename),
        encoding,
        _clean(content_id),
    )


def _clean(text: str) -> str:
    return printable(text).strip()
