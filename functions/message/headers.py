"""Header editing on the bytes of a CRLF mail; nothing outside the edited fields changes.

The header block of a mail is the part before its first empty line, provided that its first line is
a field (RFC 5322 section 2.2) or the line that mailbox files put in front of a mail (RFC 4155); a byte
order mark may stand before either. A line further down that is neither a field nor a continuation stays
in place and ends nothing; this includes a line of blanks alone. Readers differ about such lines, and a
removal must reach every field that any of them would see. A mail that starts with anything else has no
header block. All code that edits, signs or checks mails uses `head_size` for this; `reading.block` has
what a mail's content shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from functions.message.text import UNFIT_FOR_FIELD

CRLF: Final = b"\r\n"

BOM: Final = b"\xef\xbb\xbf"
"""The byte order mark in UTF-8. Some writers put it before the first field."""

MAX_LINE: Final = 998
"""RFC 5322 section 2.1.1: bytes of a line, its CRLF not counted."""

# RFC 5322 section 3.6.8 (ftext), and section 4.5 for the blanks before the colon. The bounds let
# a reader of a stream decide after a thousand bytes. The group is there for a header's first line.
_FIRST: Final = re.compile(rb"(?:\xef\xbb\xbf)?(?:(>?From )|[!-9;-~]{1,997}[ \t]{0,64}(:)?)")
_MAILBOX_LINE: Final = re.compile(rb">?From (?![ \t]*:)")
_NAME: Final = re.compile(r"[!-9;-~]{1,77}")
_FORM: Final = "(RFC 5322 section 3.6.8), which has letters, digits and dashes, and no space or colon"
# Blanks, control characters, and what has no width: in ASCII, in UTF-8, and two of ISO 8859-1.
INVISIBLE: Final = (
    rb"(?:[\x00-\t\x0b\x0c\x0e-\x20\x7f\x85\xa0]|\xc2[\x80-\xa0\xad]|\xe1\x9a\x80|\xe1\xa0\x8e"
    rb"|\xe2\x80[\x80-\x8f\xa8-\xaf]|\xe2\x81[\x9f-\xaf]|\xe3\x80\x80|\xef\xbb\xbf)"
)
"""A pattern of one blank, control character, or character that has no width: in ASCII, in UTF-8, and two
of ISO 8859-1."""
_RECEIVED: Final = re.compile(rb"\r\n[Rr][Ee][Cc][Ee][Ii][Vv][Ee][Dd][ \t]*:")
_RECEIVED_FIRST: Final = re.compile(rb"[Rr][Ee][Cc][Ee][Ii][Vv][Ee][Dd][ \t]*:")

Predicate = Callable[[bytes], bool]
"""True if a field with this unfolded, stripped value is to be removed."""


def head_size(data: bytes, start: int = 0, end: int | None = None) -> int:
    """Length of the header block of the mail or body part in `data[start:end]`, with each field's CRLF
    and without the empty line; 0 if there is no header block."""
    end = len(data) if end is None else end
    first = _FIRST.match(data, start, end)
    if first is None or first.lastindex is None:
        return 0
    at = data.find(b"\r\n\r\n", start, end)
    return (end if at < 0 else at + 2) - start


def is_mailbox_line(line: bytes) -> bool:
    """True if a header's line is not a field but the line that a mailbox file puts in front of a mail:
    `From ann@example.com Mon Jan  5 10:00:00 2026` (RFC 4155 appendix A)."""
    return _MAILBOX_LINE.match(line) is not None


def split_head(data: bytes) -> tuple[bytes, bytes]:
    """The header block and the rest; together they are `data`.

    The rest begins with the empty line's CRLF. It is b"" when the mail ends in its header, and all
    of `data` when there is no header block.
    """
    at = head_size(data)
    return data[:at], data[at:]


def separator(head: bytes, rest: bytes) -> bytes:
    """The bytes that must stand between fields put on top of `head` and `head + rest`: an empty line
    for a mail without a header, b"" otherwise."""
    return b"" if head or rest.startswith(CRLF) else CRLF


def count_received(head: bytes) -> int:
    """The number of Received fields in a header block (RFC 5321 section 6.3, loop detection)."""
    if head.lower().find(b"received") < 0:
        return 0  # most mails come from their author, and `find` takes less time than `in`
    return len(_RECEIVED.findall(head)) + (_RECEIVED_FIRST.match(head) is not None)


def unfold(value: bytes) -> bytes:
    """A field's value on one line (RFC 5322 section 2.2.3), without the blanks around it."""
    return value.replace(CRLF, b"").strip(b" \t\r\n")


def field_end(head: bytes, start: int) -> int:
    """The end of the field that contains `start`, its continuation lines and last CRLF included."""
    while (at := head.find(CRLF, start)) >= 0:
        start = at + 2
        if head[start : start + 1] not in (b" ", b"\t"):
            return start
    return len(head)


class HeaderEdits:
    """The changes that the configuration makes to a header (`mailHeaders`).

    `edits` maps `"X"` to a value to add, `"-X"` to anything for a removal, `"?X"` to a value to add
    if no X stays. `removals` are (name, predicate) pairs: a field of that name is removed if the
    predicate is true for its value. This includes fields whose name only a lenient reader finds:
    with blanks or control characters of any kind around it, or folded before the colon. Raises
    ValueError, naming the key, for a name or a value that a header cannot hold.
    """

    __slots__ = ("_always", "_fields", "_first", "_names", "_other", "_predicates", "_wanted")

    def __init__(
        self,
        edits: Mapping[str, object] | None = None,
        removals: Iterable[tuple[str, Predicate]] = (),
    ) -> None:
        present: set[str] = set()
        gone: set[str] = set()
        plan: list[tuple[bool, str, bytes]] = []
        for key, value in (edits or {}).items():
            mark, name = (key[0], key[1:]) if key[:1] in ("-", "?") else ("", key)
            if not _NAME.fullmatch(name):
                raise ValueError(f"{key!r} is not a header field name {_FORM}")
            if mark == "-":
                gone.add(name.lower())
                continue
            plan.append((mark == "?", name.lower(), _field(key, name, value)))
            if not mark:
                present.add(name.lower())
        self._fields: list[tuple[re.Pattern[bytes] | None, re.Pattern[bytes] | None, bytes]] = []
        for conditional, name, field in plan:
            if conditional and name in present:
                continue
            if conditional and name not in gone:
                self._fields.append((*field_patterns([name]), field))
            else:
                self._fields.append((None, None, field))
        self._wanted = any(first is not None for first, _, _ in self._fields)
        self._always = b"".join(field for _, _, field in self._fields)

        self._predicates: dict[bytes, list[Predicate]] = {}
        asked: set[str] = set()
        for name, predicate in removals:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not a header field name {_FORM}")
            asked.add(name.lower())
            if name.lower() not in gone:
                self._predicates.setdefault(name.lower().encode(), []).append(predicate)
        self._names = gone | asked
        self._first: re.Pattern[bytes] | None = None
        self._other: re.Pattern[bytes] | None = None
        if gone or self._predicates:
            self._first, self._other = field_patterns(gone - asked, asked)

    def added(self, head: bytes) -> bytes:
        """The fields to put on top of a mail with this header block."""
        if not self._wanted:
            return self._always
        return b"".join(
            field
            for first, other, field in self._fields
            if first is None or other is None or not (first.match(head) or other.search(head))
        )

    def applied(self, head: bytes) -> tuple[bytes, bytes]:
        """`added` and `kept`."""
        if self._first is None and not self._wanted:
            return self._always, head  # most configurations
        return self.added(head), self.kept(head)

    def kept(self, head: bytes) -> bytes:
        """The header block without the removed fields; `head` itself if no field is removed."""
        if self._first is None or self._other is None:
            return head
        first, other = self._first, self._other
        if BOM in head:  # it may stand before any name
            first, other = field_patterns((), self._names)
        found = first.match(head) or other.search(head)
        if found is None:
            return head
        pieces: list[bytes] = []
        copied = 0
        while found is not None:
            assert found.lastindex is not None  # each alternative has its group
            name = found[found.lastindex]
            start = found.start() and found.start() + len(CRLF)
            end = field_end(head, found.end())
            if self._goes(name.lower(), head, found.end(), end):
                pieces.append(head[copied:start])
                copied = end
            found = other.search(head, end - 2)
        if not copied:
            return head
        pieces.append(head[copied:])
        return b"".join(pieces)

    def _goes(self, name: bytes, head: bytes, start: int, end: int) -> bool:
        predicates = self._predicates.get(name)
        if predicates is None:
            return True
        value = unfold(head[start:end])
        return any(predicate(value) for predicate in predicates)


def field_patterns(
    names: Iterable[str], lenient: Iterable[str] = ()
) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Patterns that find fields up to the colon, one for the first line and one for the others: a
    literal start makes the search fast. The name is in the last group.

    For the names in `lenient` they also find text that only a lenient reader takes for such a
    field: with blanks or control characters of any kind around the name, or folded before the
    colon.
    """
    ways = []
    if exact := _any_of(names):
        ways.append(exact + rb"[ \t]*:")
    if loose := _any_of(lenient):
        # A line that starts with a blank continues the field above it. Most lines start with a letter.
        before = rb"(?:(?=[^ \t!-~])%b*+)?" % INVISIBLE
        ways.append(rb"%b%b(?:%b|\r\n[ \t])*+:" % (before, loose, INVISIBLE))
    line = b"(?:" + b"|".join(ways) + b")"
    first = rb"(?:%b)?%b" % (BOM, line)
    return re.compile(first, re.IGNORECASE), re.compile(rb"\r\n" + line, re.IGNORECASE)


def _any_of(names: Iterable[str]) -> bytes:
    found = b"|".join(re.escape(name.encode()) for name in sorted(names))
    return b"(" + found + b")" if found else b""


def _field(key: str, name: str, value: object) -> bytes:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{key!r}: a field's value is text, not {type(value).__name__}")
    text = str(value).strip()
    if UNFIT_FOR_FIELD.search(text):
        raise ValueError(
            f"{key!r}: the value holds a line break or another control character (write one line)"
        )
    line = f"{name}: {text}".rstrip().encode()
    if len(line) > MAX_LINE:
        raise ValueError(f"{key!r}: the field is longer than {MAX_LINE} bytes (RFC 5322 section 2.1.1)")
    return line + CRLF


class HeaderTooLarge(ValueError):
    """The header block is larger than the collector's limit."""


class HeadCollector:
    """Collects the header block of a mail that comes in pieces.

    Feed it until `feed` returns something other than None, or call `finish` at the end of the mail.
    Then `head` is the header block as `split_head` defines it, wherever the pieces were cut. `limit` is
    the largest header block in bytes; memory stays within the limit and one piece.
    """

    __slots__ = ("_buffer", "_limit", "_started", "head")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._started = False
        self.head = b""

    def feed(self, chunk: bytes) -> bytes | None:
        """Take the next piece. Returns None while the header block goes on, else the bytes that follow
        it so far. Raises HeaderTooLarge; the collector cannot be used after that."""
        seen = len(self._buffer)
        data: bytes | bytearray = chunk
        if seen:
            self._buffer += chunk
            data = self._buffer
        if not self._started:
            starts = _starts_with_field(data)
            if starts is False:
                if not seen:
                    self._buffer += chunk
                return self._without_header()
            self._started = starts is True
        end = data.find(b"\r\n\r\n", max(0, seen - 3)) if self._started else -1
        # Without the empty line the block is at most one byte shorter than the bytes received.
        if self._started and (end + 2 if end >= 0 else len(data) - 1) > self._limit:
            raise HeaderTooLarge(f"the header is larger than {self._limit} bytes")
        if end < 0:
            if not seen:
                self._buffer += chunk
            return None
        self.head = bytes(data[: end + 2])
        rest = bytes(data[end + 2 :])
        self._buffer = bytearray()
        return rest

    def finish(self) -> bytes:
        """Ends the mail. Returns the bytes after the header block. Raises HeaderTooLarge."""
        if not self._started:
            return self._without_header()
        if len(self._buffer) > self._limit:
            raise HeaderTooLarge(f"the header is larger than {self._limit} bytes")
        self.head = bytes(self._buffer)
        self._buffer = bytearray()
        return b""

    def _without_header(self) -> bytes:
        data = bytes(self._buffer)
        self._buffer = bytearray()
        return data


def _starts_with_field(data: bytes | bytearray) -> bool | None:
    """None if more bytes are needed to decide."""
    first = _FIRST.match(data)
    if first is None:
        return None if data in (b"", b"\r") or BOM.startswith(data) else False
    if first.lastindex is not None:
        return True
    return None if first.end() == len(data) else False
